package state

import (
	"encoding/binary"
	"errors"

	"rightful"
	"rightful/internal/tree"
)

// A Packer appends fields to B: uvarint and zigzag varint numbers, byte strings with a uvarint length before them.
type Packer struct{ B []byte }

// Uint appends a number as uvarint.
func (e *Packer) Uint(v uint64) { e.B = binary.AppendUvarint(e.B, v) }

// Int appends a number that may be negative, as zigzag varint.
func (e *Packer) Int(v int64) { e.B = binary.AppendVarint(e.B, v) }

// Byte appends one byte.
func (e *Packer) Byte(v byte) { e.B = append(e.B, v) }

// Bytes appends a byte string.
func (e *Packer) Bytes(v []byte) {
	e.Uint(uint64(len(v)))
	e.B = append(e.B, v...)
}

// Text appends a string of any bytes.
func (e *Packer) Text(v string) {
	e.Uint(uint64(len(v)))
	e.B = append(e.B, v...)
}

// ACL appends the kernel's form, empty for none.
func (e *Packer) ACL(a rightful.ACL) {
	if len(a) == 0 {
		e.Uint(0)
		return
	}
	e.Bytes(tree.EncodeACL(a))
}

// Meta appends uid, gid, mode, access ACL, default ACL and capabilities.
func (e *Packer) Meta(m rightful.Meta) {
	e.Uint(uint64(m.UID))
	e.Uint(uint64(m.GID))
	e.Uint(uint64(m.Mode))
	e.ACL(m.ACL)
	e.ACL(m.Default)
	e.Bytes(m.Caps)
}

// Content appends size and checksum.
func (e *Packer) Content(c *rightful.Content) {
	e.Uint(uint64(c.Size))
	e.B = append(e.B, c.SHA256[:]...)
}

// ErrMalformed marks a payload that does not hold what its kind says.
var ErrMalformed = errors.New("malformed record")

// An Unpacker takes fields off B. After an error, which Err keeps, it yields zero values.
type Unpacker struct {
	B   []byte
	Err error
}

// Fail ends the reading with ErrMalformed.
func (d *Unpacker) Fail() {
	d.B, d.Err = nil, ErrMalformed
}

// Uint takes what [Packer.Uint] appended.
func (d *Unpacker) Uint() uint64 {
	if len(d.B) > 0 && d.B[0] < 0x80 { // nearly always, and worth a shortcut
		v := d.B[0]
		d.B = d.B[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.B)
	if n <= 0 {
		d.Fail()
		return 0
	}
	d.B = d.B[n:]
	return v
}

// Uint32 is Uint for what must fit 32 bits.
func (d *Unpacker) Uint32() uint32 {
	v := d.Uint()
	if v > 1<<32-1 {
		d.Fail()
	}
	return uint32(v)
}

// Int takes what [Packer.Int] appended.
func (d *Unpacker) Int() int64 {
	v := d.Uint()
	return int64(v>>1) ^ -int64(v&1)
}

// Byte takes one byte.
func (d *Unpacker) Byte() byte {
	if len(d.B) == 0 {
		d.Fail()
		return 0
	}
	v := d.B[0]
	d.B = d.B[1:]
	return v
}

// Take is Bytes without a copy.
func (d *Unpacker) Take() []byte {
	n := d.Uint()
	if n > uint64(len(d.B)) {
		d.Fail()
		return nil
	}
	v := d.B[:n]
	d.B = d.B[n:]
	return v
}

// Text takes a string.
func (d *Unpacker) Text() string { return string(d.Take()) }

// Bytes takes a byte string, nil where it is empty.
func (d *Unpacker) Bytes() []byte {
	v := d.Take()
	if len(v) == 0 {
		return nil
	}
	return append([]byte(nil), v...)
}

// Content takes what [Packer.Content] appended.
func (d *Unpacker) Content() *rightful.Content {
	c := &rightful.Content{Size: int64(d.Uint())}
	if len(d.B) < len(c.SHA256) {
		d.Fail()
		return c
	}
	d.B = d.B[copy(c.SHA256[:], d.B):]
	return c
}

// ACL takes an ACL and checks it.
func (d *Unpacker) ACL() rightful.ACL {
	v := d.Take()
	if len(v) == 0 {
		return nil
	}
	a, err := tree.DecodeACL(v)
	if err != nil {
		d.Fail()
	}
	return a
}

// Meta takes what [Packer.Meta] appended.
func (d *Unpacker) Meta() (m rightful.Meta) {
	m.UID, m.GID = d.Uint32(), d.Uint32()
	mode := d.Uint()
	if mode > uint64(rightful.ModeAll) {
		d.Fail()
	}
	m.Mode = rightful.Mode(mode)
	m.ACL, m.Default = d.ACL(), d.ACL()
	m.Caps = d.Bytes()
	return m
}
