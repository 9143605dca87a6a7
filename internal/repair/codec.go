package repair

import (
	"encoding/binary"
	"errors"

	"rightful"
	"rightful/internal/tree"
)

// encoder appends fields to a payload.
type encoder struct{ b []byte }

func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)   { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) byte(v byte)   { e.b = append(e.b, v) }
func (e *encoder) bytes(v []byte) {
	e.uint(uint64(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) string(v string) {
	e.uint(uint64(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) acl(a rightful.ACL) {
	if len(a) == 0 {
		e.uint(0)
		return
	}
	e.bytes(tree.EncodeACL(a))
}

func (e *encoder) meta(m rightful.Meta) {
	e.uint(uint64(m.UID))
	e.uint(uint64(m.GID))
	e.uint(uint64(m.Mode))
	e.acl(m.ACL)
	e.acl(m.Default)
	e.bytes(m.Caps)
}

// errCodec marks a payload that does not hold what its kind says.
var errCodec = errors.New("malformed record")

// decoder takes fields off a payload. After an error it yields zero values.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail() {
	d.b, d.err = nil, errCodec
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uint()
	if v > 1<<32-1 {
		d.fail()
	}
	return uint32(v)
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) take() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) string() string { return string(d.take()) }

func (d *decoder) bytes() []byte {
	v := d.take()
	if len(v) == 0 {
		return nil
	}
	return append([]byte(nil), v...)
}

func (d *decoder) acl() rightful.ACL {
	v := d.take()
	if len(v) == 0 {
		return nil
	}
	a, err := tree.DecodeACL(v)
	if err != nil {
		d.fail()
	}
	return a
}

func (d *decoder) meta() (m rightful.Meta) {
	m.UID, m.GID = d.uint32(), d.uint32()
	mode := d.uint()
	if mode > uint64(rightful.ModeAll) {
		d.fail()
	}
	m.Mode = rightful.Mode(mode)
	m.ACL, m.Default = d.acl(), d.acl()
	m.Caps = d.bytes()
	return m
}

// encodeChange writes a change; strings that repeat go through intern.
func (e *encoder) change(c *rightful.Change, intern func(string) uint64) {
	e.uint(intern(c.Base))
	e.uint(intern(string(c.ID.FS)))
	e.uint(intern(string(c.Problem)))
	e.uint(intern(string(c.Effect)))
	e.uint(intern(c.Rule))
	e.byte(byte(c.Kind))
	e.string(c.Rel)
	e.bytes(c.ID.Handle)
	e.uint(c.ID.Ino)
	e.int(c.ID.Birth)
	e.uint(uint64(c.Links))
	e.meta(c.Before)
	e.meta(c.After)
	if c.Content == nil {
		e.byte(0)
		return
	}
	e.byte(1)
	e.uint(uint64(c.Content.Size))
	e.b = append(e.b, c.Content.SHA256[:]...)
}

func decodeChange(b []byte, strings []string) (*rightful.Change, error) {
	d := decoder{b: b}
	str := func() string {
		i := d.uint()
		if i >= uint64(len(strings)) {
			d.fail()
			return ""
		}
		return strings[i]
	}
	c := &rightful.Change{Base: str()}
	c.ID.FS = rightful.FSID(str())
	c.Problem = rightful.Problem(str())
	c.Effect = rightful.Effect(str())
	c.Rule = str()
	c.Kind = rightful.Kind(d.byte())
	c.Rel = d.string()
	c.ID.Handle = d.bytes()
	c.ID.Ino = d.uint()
	c.ID.Birth = d.int()
	c.Links = d.uint32()
	c.Before, c.After = d.meta(), d.meta()
	switch d.byte() {
	case 0:
	case 1:
		c.Content = &rightful.Content{Size: int64(d.uint())}
		if len(d.b) < len(c.Content.SHA256) {
			d.fail()
		} else {
			d.b = d.b[copy(c.Content.SHA256[:], d.b):]
		}
	default:
		d.fail()
	}
	if d.err == nil && len(d.b) > 0 {
		d.fail()
	}
	return c, d.err
}
