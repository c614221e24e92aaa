package main

import (
	"fmt"
	"html"
	"strings"
)

// plots are drawings by their files' names.
func (r *Result) plots(earlier *Result) map[string]string {
	var sent, asked []Figure
	for _, f := range r.Records {
		switch {
		case f.Absent != "":
		case f.Unit == "CPU s/GiB":
			sent = append(sent, f)
		case f.Unit == "CPU µs":
			asked = append(asked, f)
		}
	}
	return map[string]string{
		"ratios.svg":   ratios(r.Figures, earlier),
		"cpu.svg":      bars("Processor time per GiB of image data, in seconds (less is better)", sent),
		"requests.svg": bars("Processor time per request, in microseconds (less is better)", asked),
	}
}

const (
	width, label, line = 900, 430, 22
	top                = 40
	style              = `<style>text{font:13px sans-serif;fill:#333}.t{font-weight:bold}.v{font-size:11px}.ours{fill:#2a6fb0}.other{fill:#b8bec6}.range{stroke:#333;stroke-width:1}.must{stroke:#c0392b;stroke-width:2}.aim{stroke:#2e8b57;stroke-width:2}.was{fill:none;stroke:#888}</style>`
)

func drawing(title string, lines int, body string) string {
	height := top + lines*line + 20
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d"><rect width="100%%" height="100%%" fill="#fff"/>%s<text class="t" x="10" y="22">%s</text>%s</svg>`+"\n",
		width, height, width, height, style, html.EscapeString(title), body)
}

// bars has a bar for each figure, with the range of its rounds.
func bars(title string, figures []Figure) string {
	most := 0.0
	for _, f := range figures {
		most = max(most, f.Max)
	}
	scale := func(v float64) float64 { return label + v/most*(width-label-70) }
	var out strings.Builder
	for i, f := range figures {
		y := top + i*line
		class := "other"
		if strings.HasSuffix(f.Name, own) {
			class = "ours"
		}
		fmt.Fprintf(&out, `<text x="%d" y="%d" text-anchor="end">%s</text><rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`,
			label-8, y+15, html.EscapeString(f.Name), class, label, y+4, scale(f.Median)-label, line-8)
		fmt.Fprintf(&out, `<line class="range" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><text class="v" x="%.1f" y="%d">%s</text>`,
			scale(f.Min), y+line/2, scale(f.Max), y+line/2, scale(f.Max)+5, y+15, format(f.Median))
	}
	return drawing(title, len(figures), out.String())
}

// ratios shows each row as a share of what it must be: the red line is the must,
// the green mark the aim, the hollow circle what was before.
func ratios(figures []Figure, earlier *Result) string {
	before := map[string]float64{}
	if earlier != nil {
		for _, f := range earlier.Figures {
			before[f.Name+f.Unit] = f.Median
		}
	}
	const most = 2.0 // times the must
	scale := func(v float64) float64 { return label + min(v, most)/most*(width-label-70) }
	var out strings.Builder
	n := 0
	for _, f := range figures {
		if f.Must == 0 || f.Absent != "" {
			continue
		}
		y := top + n*line
		n++
		share := func(v float64) float64 {
			if f.MoreIs {
				return f.Must / v
			}
			return v / f.Must
		}
		fmt.Fprintf(&out, `<text x="%d" y="%d" text-anchor="end">%s</text>`, label-8, y+15, html.EscapeString(f.Name))
		fmt.Fprintf(&out, `<line class="range" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><circle class="ours" cx="%.1f" cy="%d" r="5"/>`,
			scale(share(f.Min)), y+line/2, scale(share(f.Max)), y+line/2, scale(share(f.Median)), y+line/2)
		fmt.Fprintf(&out, `<line class="aim" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`, scale(share(f.Aim)), y+4, scale(share(f.Aim)), y+line-4)
		if was, ok := before[f.Name+f.Unit]; ok && was > 0 {
			fmt.Fprintf(&out, `<circle class="was" cx="%.1f" cy="%d" r="5"/>`, scale(share(was)), y+line/2)
		}
		fmt.Fprintf(&out, `<text class="v" x="%d" y="%d">%s</text>`, width-60, y+15, format(f.Median))
	}
	fmt.Fprintf(&out, `<line class="must" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`, scale(1), top, scale(1), top+n*line)
	return drawing("Each row as a share of its must (red line; green: the aim; hollow: before; two musts and more at the edge)", n, out.String())
}
