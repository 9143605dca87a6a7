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

// write passes bytes on as they are, for a program to read.
func (o *output) write(b []byte) {
	_, err := o.w.Write(b)
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
	c := reflect.New(t).Elem()
	c.Set(v)
	switch v.Kind() {
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return v
		}
		c.Set(reflect.MakeSlice(t, v.Len(), v.Len()))
		for i := range v.Len() {
			c.Index(i).Set(filled(v.Index(i)))
		}
	case reflect.Array:
		for i := range v.Len() {
			c.Index(i).Set(filled(v.Index(i)))
		}
	case reflect.Struct:
		fillFields(c)
	case reflect.Map:
		if v.IsNil() {
			return v
		}
		c.Set(reflect.MakeMapWithSize(t, v.Len()))
		for k, e := range v.Seq2() {
			c.SetMapIndex(k, filled(e))
		}
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		c.Set(reflect.New(t.Elem()))
		c.Elem().Set(filled(v.Elem()))
	case reflect.Interface:
		if v.IsNil() {
			return v
		}
		c.Set(filled(v.Elem()))
	}
	return c
}

// fillFields fills the fields of a struct in place. An embedded struct of an unexported type cannot be set as a whole,
// but its exported fields can, and they are printed.
func fillFields(c reflect.Value) {
	for i := range c.NumField() {
		switch f := c.Field(i); {
		case f.CanSet():
			f.Set(filled(f))
		case c.Type().Field(i).Anonymous && f.Kind() == reflect.Struct:
			fillFields(f)
		}
	}
}
