package main

import (
	"fmt"
	"slices"
	"strings"
)

// A bar is what a row is held to. A ratio beyond its must by more than
// tolerance fails the bench: less than that may be the machine.
const tolerance = 1.15

// Figure is what was measured in the rounds of a row.
type Figure struct {
	Name     string
	Unit     string  `json:",omitempty"`
	Must     float64 `json:",omitempty"` // zero: on record only
	Aim      float64 `json:",omitempty"`
	MoreIs   bool    `json:",omitempty"` // more is better
	Exact    bool    `json:",omitempty"` // no tolerance: a count, not a time
	Rounds   []float64
	Median   float64
	Min, Max float64
	Absent   string `json:",omitempty"` // why there is none
}

// verdict of a row.
func (f Figure) verdict() string {
	beyond := func(bar float64) bool {
		if f.MoreIs {
			return f.Median < bar
		}
		return f.Median > bar
	}
	slack := f.Must * tolerance
	if f.MoreIs {
		slack = f.Must / tolerance
	}
	if f.Exact {
		slack = f.Must
	}
	switch {
	case f.Absent != "":
		return "not measured: " + f.Absent
	case !f.barred():
		return ""
	case beyond(slack):
		return "BEYOND THE MUST"
	case beyond(f.Must):
		return "beyond the must, within tolerance"
	case beyond(f.Aim):
		return "must"
	}
	return "aim"
}

func (f Figure) barred() bool { return f.Must != 0 || f.Exact }

// Row is a figure and how to compute it from what a round measured.
type row struct {
	Figure
	value func(at func(series string) float64) float64
	of    []string // the series that it wants
}

// ratio is the sum of some series over the sum of others, round by round.
func ratio(name string, must, aim float64, over []string, under ...string) row {
	return row{Figure{Name: name, Must: must, Aim: aim}, func(at func(string) float64) float64 {
		var a, b float64
		for _, s := range over {
			a += at(s)
		}
		for _, s := range under {
			b += at(s)
		}
		return a / b
	}, append(slices.Clone(over), under...)}
}

// plain is a series as it is.
func plain(name, unit string, must, aim float64, series string) row {
	return row{Figure{Name: name, Unit: unit, Must: must, Aim: aim}, func(at func(string) float64) float64 { return at(series) }, []string{series}}
}

func more(r row) row  { r.MoreIs = true; return r }
func exact(r row) row { r.Exact = true; return r }

// What the proxies are called.
const (
	stock  = "nginx"
	tuned  = "nginx, 256 KiB"
	hap    = "haproxy"
	gorp   = "ReverseProxy"
	own    = "countersign"
	direct = "no proxy"
)

func s(what, who string) string { return what + " | " + who }

// rows is the table: what has to hold, and what is on record.
func rows() []row {
	return []row{
		ratio("signed SHA-256 upload / (tuned nginx + raw SHA-256)", 1.15, 0.95, []string{s("signed SHA-256", own)}, s("upload", tuned), "raw SHA-256"),
		ratio("signed SHA-512 upload / (tuned nginx + raw SHA-512)", 1.10, 0.97, []string{s("signed SHA-512", own)}, s("upload", tuned), "raw SHA-512"),
		ratio("unsigned upload with length / tuned nginx", 1.00, 0.40, []string{s("upload", own)}, s("upload", tuned)),
		ratio("unsigned chunked upload / tuned nginx", 1.00, 0.65, []string{s("chunked", own)}, s("chunked", tuned)),
		ratio("download / tuned nginx", 0.50, 0.35, []string{s("download", own)}, s("download", tuned)),
		ratio("download / haproxy", 0.30, 0.20, []string{s("download", own)}, s("download", hap)),
		more(ratio("download throughput / tuned nginx", 1.2, 1.6, []string{s("download rate", own)}, s("download rate", tuned))),
		ratio("GET image, 32 connections / nginx", 3.0, 2.0, []string{s("get 32", own)}, s("get 32", stock)),
		{Figure{Name: "GET image, added p50, one connection / nginx's", Must: 2.5, Aim: 1.0}, func(at func(string) float64) float64 {
			base := at(s("p50 1", direct))
			return (at(s("p50 1", own)) - base) / (at(s("p50 1", stock)) - base)
		}, []string{s("p50 1", direct), s("p50 1", own), s("p50 1", stock)}},
		plain("200 slow unsigned uploads, each, fresh", "KiB", 56, 24, "slow unsigned, fresh"),
		plain("200 slow unsigned uploads, each, after 32 fast ones", "KiB", 64, 32, "slow unsigned, after fast"),
		plain("200 slow signed uploads, each, fresh", "KiB", 56, 24, "slow signed, fresh"),
		plain("200 slow signed uploads, each, after 32 fast ones", "KiB", 64, 32, "slow signed, after fast"),
		plain("2000 idle clients, each", "KiB", 20, 12, s("idle", own)),
		ratio("peak memory, large signed upload / 1 GiB", 1.02, 1.00, []string{"peak, large"}, "peak, 1 GiB"),
		plain("wrong signature (RSA-2048): last byte to answer, without the DELETE", "ms", 10, 5, "wrong signature"),
		exact(plain("refused PUT of 1 GiB with Expect: body bytes before the answer", "B", 0, 0, "refused, Expect")),
		exact(plain("refused PUT of 1 GiB without: body bytes before the answer", "B", 256<<10, 256<<10, "refused")),
		ratio("100 000 rules / 10, per request", 1.05, 1.02, []string{"rules, 100 000"}, "rules, 10"),
		ratio("10 000 cached certificates / 1, per request", 1.05, 1.02, []string{"certificates, 10 000"}, "rules, 10"),
		ratio("32 signed uploads at once / one by one", 1.10, 1.05, []string{"signed, 32 at once"}, "signed, 32 one by one"),
		ratio("real Glance: wall time of a signed 1 GiB upload / straight", 1.05, 1.02, []string{"glance, through"}, "glance, straight"),

		ratio("32 signed uploads at once / one of 1 GiB, per GiB", 0, 0, []string{"signed, 32 at once"}, s("signed SHA-256", own)),
		plain("size of the large upload", "GiB", 0, 0, "large"),
		plain("warm signed 64 KiB upload", "CPU µs", 0, 0, "signed 64 KiB"),
		plain("warm signed 64 KiB upload", "wall µs, p50", 0, 0, "signed 64 KiB, wall"),
		plain("upstream requests per signed upload", "", 0, 0, "upstream requests"),
		plain("signed SHA-256 upload, TLS to the client", "CPU s/GiB", 0, 0, "signed, TLS client"),
		plain("signed SHA-256 upload, TLS to Glance", "CPU s/GiB", 0, 0, "signed, TLS Glance"),
		plain("download, TLS to the client", "CPU s/GiB", 0, 0, "download, TLS client"),
		plain("download, TLS to Glance", "CPU s/GiB", 0, 0, "download, TLS Glance"),
	}
}

// records are the figures of every proxy, which have no bar.
func records(proxies []string) []row {
	var list []row
	for _, what := range []struct{ series, name, unit string }{
		{"upload", "unsigned upload with length", "CPU s/GiB"},
		{"upload rate", "unsigned upload with length", "MB/s"},
		{"chunked", "unsigned chunked upload", "CPU s/GiB"},
		{"download", "download", "CPU s/GiB"},
		{"download rate", "download", "MB/s"},
		{"get 1", "GET image, 1 connection", "CPU µs"},
		{"p50 1", "GET image, 1 connection", "p50 µs"},
		{"get 32", "GET image, 32 connections", "CPU µs"},
		{"get rate 32", "GET image, 32 connections", "requests/s"},
		{"idle", "2000 idle clients, each", "KiB"},
		{"memory", "anonymous memory after all uploads and downloads", "MiB"},
	} {
		for _, who := range proxies {
			list = append(list, plain(what.name+": "+who, what.unit, 0, 0, s(what.series, who)))
		}
	}
	for _, what := range []string{"signed SHA-256", "signed SHA-512"} {
		list = append(list, plain(what+" upload: "+own, "CPU s/GiB", 0, 0, s(what, own)))
		list = append(list, plain(what+" upload: "+own, "MB/s", 0, 0, s(what+" rate", own)))
	}
	return append(list,
		plain("raw SHA-256", "CPU s/GiB", 0, 0, "raw SHA-256"),
		plain("raw SHA-512", "CPU s/GiB", 0, 0, "raw SHA-512"))
}

// compute fills in the figures of some rows.
func (b *bench) compute(list []row) []Figure {
	var figures []Figure
	for _, r := range list {
		f := r.Figure
		rounds := -1
		for _, series := range r.of {
			if n := len(b.series[series]); rounds < 0 || n < rounds {
				rounds = n
			}
			if len(b.series[series]) == 0 {
				f.Absent = "no " + strings.ReplaceAll(series, " | ", ": ")
				if why := b.absent[series]; why != "" {
					f.Absent = why
				}
			}
		}
		for i := range rounds {
			f.Rounds = append(f.Rounds, r.value(func(series string) float64 { return b.series[series][i] }))
		}
		if f.Absent == "" {
			f.Median, f.Min, f.Max = median(f.Rounds), slices.Min(f.Rounds), slices.Max(f.Rounds)
		}
		figures = append(figures, f)
	}
	return figures
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// format writes a number with about three digits that count.
func format(v float64) string {
	switch {
	case v != v:
		return "-"
	case v >= 100 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
