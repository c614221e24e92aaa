package config

import (
	"fmt"
	"strings"
)

// Problem is one thing wrong with the environment.
type Problem struct {
	Variable string // the full name, such as COUNTERSIGN_LISTEN
	Text     string // what is wrong and what is expected; never the value of a secret
}

// Error lists everything that is wrong, so that it is corrected in one go.
type Error struct {
	Problems []Problem
}

// Error has one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Variable + ": " + p.Text
	}
	return strings.Join(lines, "\n")
}

// add keeps the first problem of a variable: what cannot be parsed is not
// blamed a second time for its range.
func (e *Error) add(variable, format string, args ...any) {
	for _, p := range e.Problems {
		if p.Variable == variable {
			return
		}
	}
	e.Problems = append(e.Problems, Problem{variable, fmt.Sprintf(format, args...)})
}
