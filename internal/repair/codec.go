package repair

import (
	"rightful"
	"rightful/internal/state"
)

// encodeChange writes a change; strings that repeat go through intern.
func encodeChange(e *state.Packer, c *rightful.Change, intern func(string) uint64) {
	e.Uint(intern(c.Base))
	e.Uint(intern(string(c.ID.FS)))
	e.Uint(intern(string(c.Problem)))
	e.Uint(intern(string(c.Effect)))
	e.Uint(intern(c.Rule))
	e.Byte(byte(c.Kind))
	e.Text(c.Rel)
	e.Bytes(c.ID.Handle)
	e.Uint(c.ID.Ino)
	e.Int(c.ID.Birth)
	e.Uint(uint64(c.Links))
	e.Meta(c.Before)
	e.Meta(c.After)
	switch {
	case c.Exchange != nil:
		e.Byte(2)
		e.Text(c.Exchange.With)
		e.Text(string(c.Exchange.ID.FS))
		e.Bytes(c.Exchange.ID.Handle)
		e.Uint(c.Exchange.ID.Ino)
		e.Int(c.Exchange.ID.Birth)
	case c.Content != nil:
		e.Byte(1)
		e.Content(c.Content)
	default:
		e.Byte(0)
	}
}

func decodeChange(b []byte, strings []string) (*rightful.Change, error) {
	d := state.Unpacker{B: b}
	str := func() string {
		i := d.Uint()
		if i >= uint64(len(strings)) {
			d.Fail()
			return ""
		}
		return strings[i]
	}
	c := &rightful.Change{Base: str()}
	c.ID.FS = rightful.FSID(str())
	c.Problem = rightful.Problem(str())
	c.Effect = rightful.Effect(str())
	c.Rule = str()
	c.Kind = rightful.Kind(d.Byte())
	c.Rel = d.Text()
	c.ID.Handle = d.Bytes()
	c.ID.Ino = d.Uint()
	c.ID.Birth = d.Int()
	c.Links = d.Uint32()
	c.Before, c.After = d.Meta(), d.Meta()
	switch d.Byte() {
	case 0:
	case 1:
		c.Content = d.Content()
	case 2:
		if c.Kind != rightful.KindDir {
			d.Fail()
		}
		c.Exchange = &rightful.Exchange{With: d.Text()}
		c.Exchange.ID = rightful.EntryID{FS: rightful.FSID(d.Text()), Handle: d.Bytes(), Ino: d.Uint(), Birth: d.Int()}
	default:
		d.Fail()
	}
	if d.Err == nil && len(d.B) > 0 {
		d.Fail()
	}
	return c, d.Err
}
