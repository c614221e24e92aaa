package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// Result is a run, as results.json has it.
type Result struct {
	Machine Machine
	Figures []Figure // held to a bar, and on record
	Records []Figure // of every proxy
	Wrong   []string
}

// report writes the run where it is wanted, and returns the exit code.
func (r *Result) report(out, before, docs string) (int, error) {
	var earlier *Result
	if before != "" {
		text, err := os.ReadFile(before)
		if err != nil {
			return 2, err
		}
		earlier = new(Result)
		if err := json.Unmarshal(text, earlier); err != nil {
			return 2, fmt.Errorf("%s: %w", before, err)
		}
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return 2, err
	}
	if err := os.WriteFile(filepath.Join(out, "results.json"), append(text, '\n'), 0o644); err != nil {
		return 2, err
	}
	r.print(os.Stdout)
	if docs != "" {
		if err := r.write(docs, earlier); err != nil {
			return 2, err
		}
	}
	code := 0
	for _, f := range r.Figures {
		if f.verdict() == "BEYOND THE MUST" {
			fmt.Fprintf(os.Stderr, "bench: %s: %s, must be %s\n", f.Name, format(f.Median), format(f.Must))
			code = 1
		}
	}
	for _, problem := range r.Wrong {
		fmt.Fprintln(os.Stderr, "bench: wrong:", problem)
		code = 1
	}
	return code, nil
}

// print writes the tables for a terminal.
func (r *Result) print(w io.Writer) {
	fmt.Fprintln(w, r.Machine)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nRATIO OR FIGURE\tUNIT\tMEDIAN\tRANGE\tROUNDS\tMUST\tAIM\tMET")
	for _, f := range r.Figures {
		fmt.Fprintln(table, strings.Join(f.cells(), "\t"))
	}
	fmt.Fprintln(table, "\nPROXY\tUNIT\tMEDIAN\tRANGE\tROUNDS")
	for _, f := range r.Records {
		if f.Absent == "" {
			fmt.Fprintln(table, strings.Join(f.cells()[:5], "\t"))
		}
	}
	table.Flush()
}

func (f Figure) cells() []string {
	must, aim := "", ""
	if f.barred() {
		must, aim = format(f.Must), format(f.Aim)
	}
	median, span := "-", "-"
	if f.Absent == "" {
		median, span = format(f.Median), format(f.Min)+" … "+format(f.Max)
	}
	return []string{f.Name, f.Unit, median, span, fmt.Sprint(len(f.Rounds)), must, aim, f.verdict()}
}

// The part of performance.md that is the bench's own.
const begins, ends = "<!-- bench: written by make bench-docs -->\n", "<!-- /bench -->"

// write brings performance.md and its plots up to date. What stands outside the
// marks is a person's, and stays.
func (r *Result) write(docs string, earlier *Result) error {
	file := filepath.Join(docs, "performance.md")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, found := strings.Cut(string(text), begins)
	_, tail, closed := strings.Cut(rest, ends)
	if !found || !closed {
		return fmt.Errorf("%s has no %q … %q", file, begins, ends)
	}
	plots := filepath.Join(docs, "performance")
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	for name, svg := range r.plots(earlier) {
		if err := os.WriteFile(filepath.Join(plots, name), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(file, []byte(head+begins+r.markdown(earlier)+ends+tail), 0o644)
}

func (r *Result) markdown(earlier *Result) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s.\n", r.Machine)
	for _, name := range []string{"nginx", "haproxy"} {
		if version := r.Machine.Versions[name]; version != "" {
			fmt.Fprintf(&out, "%s. ", version)
		} else {
			fmt.Fprintf(&out, "There was no %s. ", name)
		}
	}
	before := map[string]Figure{}
	if earlier != nil {
		for _, f := range append(earlier.Figures, earlier.Records...) {
			before[f.Name+f.Unit] = f
		}
		fmt.Fprintf(&out, "\n\"Before\" is %s.\n", earlier.Machine)
	}
	was := func(f Figure) string {
		if b, ok := before[f.Name+f.Unit]; ok && b.Absent == "" {
			return format(b.Median)
		}
		return ""
	}
	out.WriteString("\n\n| ratio or figure | unit | before | median | range | rounds | must | aim | met |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, f := range r.Figures {
		c := f.cells()
		fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", c[0], c[1], was(f), strings.Join(c[2:], " | "))
	}
	out.WriteString("\n![Ratios against what they must be](performance/ratios.svg)\n\nEach proxy by itself:\n\n| | unit | before | median | range | rounds |\n|---|---|---|---|---|---|\n")
	for _, f := range r.Records {
		if f.Absent == "" {
			c := f.cells()
			fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", c[0], c[1], was(f), strings.Join(c[2:5], " | "))
		}
	}
	out.WriteString("\n![Processor time per GiB](performance/cpu.svg)\n\n![Processor time per request](performance/requests.svg)\n\n")
	for _, problem := range r.Wrong {
		fmt.Fprintf(&out, "**Wrong in this run**: %s\n\n", problem)
	}
	return out.String()
}

// writeReceiptKey makes a key as countersign wants it for receipts.
func writeReceiptKey(file string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}
