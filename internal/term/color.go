package term

// A Color repeats what a text says.
type Color string

// The colours, from the sixteen that every terminal has.
const (
	Red    Color = "31"
	Green  Color = "32"
	Yellow Color = "33"
	Bold   Color = "1"
)

// Paint colours s.
func (c Color) Paint(s string) string { return "\x1b[" + string(c) + "m" + s + "\x1b[0m" }
