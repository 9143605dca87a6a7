package term

import "strings"

// A Table is lines of cells whose columns line up. The zero Table is ready to use.
type Table struct {
	// Head names the columns. A name that begins with ">" makes its column right-aligned; the mark is not shown.
	Head []string
	rows [][]string
}

// Row adds a line. Cells are escaped as by [Quote].
func (t *Table) Row(cells ...string) {
	r := make([]string, len(cells))
	for i, c := range cells {
		r[i] = Quote(c)
	}
	t.rows = append(t.rows, r)
}

// Len is the number of lines without the heading.
func (t *Table) Len() int { return len(t.rows) }

// String is the table with its heading, two spaces between columns, no trailing spaces, a newline after each line.
func (t *Table) String() string {
	head := make([]string, len(t.Head))
	right := make([]bool, len(t.Head))
	for i, h := range t.Head {
		head[i], right[i] = strings.CutPrefix(h, ">")
	}
	lines := append([][]string{head}, t.rows...)
	var widths []int
	for _, l := range lines {
		for i, c := range l {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], Width(c))
		}
	}
	var b strings.Builder
	for _, l := range lines {
		var line strings.Builder
		for i, c := range l {
			if i > 0 {
				line.WriteString("  ")
			}
			pad := strings.Repeat(" ", widths[i]-Width(c))
			if i < len(right) && right[i] {
				line.WriteString(pad + c)
			} else {
				line.WriteString(c + pad)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}
