package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/proxy"
)

// scanRow is a finding as it is written.
type scanRow struct {
	Image      string `json:"image"`
	Name       string `json:"name"`
	Project    string `json:"project"`
	Visibility string `json:"visibility"`
	Size       int64  `json:"size"`
	Rule       string `json:"rule"`
	Mode       string `json:"mode"`
	Verdict    string `json:"verdict"`
	Reason     string `json:"reason"`
	Problem    string `json:"problem"`
	Signer     string `json:"signer"`
	Action     string `json:"action"`
	Note       string `json:"note"`
}

func rowOf(f proxy.Finding, dryRun bool) scanRow {
	row := scanRow{
		Image: f.ID, Name: f.Name, Project: f.Owner, Visibility: string(f.Visibility), Size: f.Size,
		Verdict: string(f.Verdict), Signer: f.Signer, Action: done(f.Action, dryRun), Note: f.Note,
	}
	if f.Rule != nil {
		row.Rule, row.Mode = f.Rule.Name, string(f.Rule.Mode)
	}
	if f.Reason != nil {
		row.Reason, row.Problem = f.Reason.Code, problem(f.Reason)
	}
	return row
}

// problem is a refusal with its cause, which only operators are told.
func problem(reason *proxy.Refusal) string {
	if reason.Err == nil {
		return reason.Error()
	}
	return fmt.Sprintf("%s Cause: %v", reason, reason.Err)
}

// done says what was done, or would be.
func done(action proxy.Action, dryRun bool) string {
	switch {
	case action == proxy.None || action == proxy.Failed || !dryRun:
		return string(action)
	case action == proxy.Certified:
		return "would get a receipt"
	}
	return "would be " + string(action)
}

// scanOutput writes findings as they come.
type scanOutput struct {
	write func(proxy.Finding)
	close func() error
	err   error // the first that writing met
}

func newScanOutput(w io.Writer, format string, dryRun bool) (*scanOutput, error) {
	out := &scanOutput{close: func() error { return nil }}
	note := func(err error) {
		if out.err == nil {
			out.err = err
		}
	}
	switch format {
	default:
		return nil, fmt.Errorf("--format %q is not known; write table, json or csv", format)
	case "json":
		before := "[\n"
		out.write = func(f proxy.Finding) {
			text, err := json.Marshal(rowOf(f, dryRun))
			note(err)
			_, err = fmt.Fprintf(w, "%s  %s", before, text)
			note(err)
			before = ",\n"
		}
		out.close = func() error {
			if before == "[\n" {
				_, err := fmt.Fprintln(w, "[]")
				return err
			}
			_, err := fmt.Fprint(w, "\n]\n")
			return err
		}
	case "csv":
		table := csv.NewWriter(w)
		note(table.Write([]string{"image", "name", "project", "visibility", "size", "rule", "mode", "verdict", "reason", "problem", "signer", "action", "note"}))
		out.write = func(f proxy.Finding) {
			r := rowOf(f, dryRun)
			note(table.Write([]string{r.Image, cell(r.Name), r.Project, r.Visibility, strconv.FormatInt(r.Size, 10), cell(r.Rule), r.Mode,
				r.Verdict, r.Reason, cell(r.Problem), r.Signer, r.Action, r.Note}))
		}
		out.close = func() error {
			table.Flush()
			return table.Error()
		}
	case "table":
		const line = "%-36s  %-32s  %-9s  %-26s  %-20s  %s\n"
		headed := false
		out.write = func(f proxy.Finding) {
			if !headed {
				_, err := fmt.Fprintf(w, line, "IMAGE", "PROJECT", "VERDICT", "REASON", "ACTION", "NAME")
				note(err)
				headed = true
			}
			r := rowOf(f, dryRun)
			_, err := fmt.Fprintf(w, line, r.Image, printable(r.Project), r.Verdict, dash(r.Reason), dash(r.Action), printable(r.Name))
			note(err)
			if r.Note != "" {
				_, err := fmt.Fprintf(w, "    %s\n", printable(r.Note))
				note(err)
			}
		}
	}
	return out, nil
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// cell keeps a spreadsheet from taking what others have written for a formula.
func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

// summaryTo is where the summary goes: beside the table, but not into what
// programs read.
func (s *scanCommand) summaryTo(cmd *cobra.Command) io.Writer {
	if s.format == "table" {
		return cmd.OutOrStdout()
	}
	return cmd.ErrOrStderr()
}

// summarize tells how many images are how, and why.
func summarize(w io.Writer, s proxy.ScanSummary, examples map[string]string) {
	fmt.Fprintf(w, "%s looked at: %d with a valid receipt, %d verified, %d that would be refused, %d that nobody can tell about.\n",
		images(s.Images), s.Verdicts[proxy.Vouched], s.Verdicts[proxy.Verified], s.Verdicts[proxy.Refused], s.Verdicts[proxy.Undecided])
	because(w, "would be refused", s.Refused, examples)
	because(w, "could not be judged", s.Undecided, examples)
}

func because(w io.Writer, what string, reasons map[string]int, examples map[string]string) {
	total := 0
	for _, n := range reasons {
		total += n
	}
	if total == 0 {
		return
	}
	fmt.Fprintf(w, "%s %s, because:\n", images(total), what)
	codes := slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
		if reasons[a] != reasons[b] {
			return reasons[b] - reasons[a]
		}
		return strings.Compare(a, b)
	})
	for _, code := range codes {
		fmt.Fprintf(w, "%8d  %s, such as: %s\n", reasons[code], code, printable(examples[code]))
	}
}
