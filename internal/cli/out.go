package cli

import (
	"bufio"
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
)

// An output is standard output: the answer, and nothing else. It keeps the first error of a write, which Main reports.
type output struct {
	w   *bufio.Writer
	err error
}

func newOutput(w io.Writer) *output { return &output{w: bufio.NewWriterSize(w, 64<<10)} }

func (o *output) keep(err error) {
	if o.err == nil {
		o.err = err
	}
}

// printf prints text. Foreign names in it must have gone through term.Quote.
func (o *output) printf(format string, args ...any) {
	_, err := fmt.Fprintf(o.w, format, args...)
	o.keep(err)
}

// flush shows what was printed so far. Main does it at the end; a verb does before it asks or waits.
func (o *output) flush() { o.keep(o.w.Flush()) }

// emit prints one JSON line: {"kind":kind, and the fields of v, which is a struct, a map, or nil for none.
// Nothing is escaped for HTML, and no array is null.
func (o *output) emit(kind string, v any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if v == nil {
		v = struct{}{}
	}
	if err := e.Encode(filled(reflect.ValueOf(v)).Interface()); err != nil {
		o.keep(fmt.Errorf("encode %q: %w", kind, err))
		return
	}
	body := bytes.TrimSpace(b.Bytes())
	if len(body) < 2 || body[0] != '{' {
		o.keep(fmt.Errorf("encode %q: not an object", kind))
		return
	}
	sep := ","
	if body[1] == '}' {
		sep = ""
	}
	o.printf("{\"kind\":%q%s%s\n", kind, sep, body[1:])
}

// filled is a copy of v in which every slice that would be printed as null is empty instead. Values that print
// themselves, and byte slices (base64), are left alone.
func filled(v reflect.Value) reflect.Value {
	t := v.Type()
	if t.Implements(reflect.TypeFor[json.Marshaler]()) || t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return v
	}
	switch v.Kind() {
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return v
		}
		c := reflect.MakeSlice(t, v.Len(), v.Len())
		for i := range v.Len() {
			c.Index(i).Set(filled(v.Index(i)))
		}
		return c
	case reflect.Struct:
		c := reflect.New(t).Elem()
		c.Set(v)
		for i := range t.NumField() {
			if f := c.Field(i); f.CanSet() {
				f.Set(filled(v.Field(i)))
			}
		}
		return c
	case reflect.Map:
		if v.IsNil() {
			return v
		}
		c := reflect.MakeMapWithSize(t, v.Len())
		for k, e := range v.Seq2() {
			c.SetMapIndex(k, filled(e))
		}
		return c
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return v
		}
		e := filled(v.Elem())
		if v.Kind() == reflect.Interface {
			return e
		}
		c := reflect.New(t.Elem())
		c.Elem().Set(e)
		return c
	}
	return v
}
