package archive

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"unicode/utf8"
)

// Names in zip archives are in no certain code. These rules decide, the first that applies:
//
//  1. Info-ZIP and 7-Zip put a name that is not ASCII into a field of its own, in UTF-8, with a checksum of the one that it
//     stands for: where that is right, it counts.
//  2. What is marked as UTF-8, or is valid UTF-8 without a mark, is taken as it is. Few texts of another code are.
//  3. What a program for unix wrote is the file's name, byte by byte.
//  4. The rest is text in the code page of a DOS or Windows machine, of which the archive does not say which. It is taken
//     for 437, the one that the format names, and told.
//
// A program for DOS or Windows may separate names by backslashes, and begin with a drive.

// cp437 is the upper half of the code page: bytes 0x80 to 0xff.
var cp437 = []rune("ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0")

// name gives the name of a record, whether it is a directory, and whether its code was guessed.
func (s *zipSource) name(z *zipRecord) (name string, dir, recoded bool) {
	raw := z.name
	f := z.field(0x7075)
	switch {
	case len(f) > 5 && f[0] == 1 && binary.LittleEndian.Uint32(f[1:]) == crc32.ChecksumIEEE(raw) && utf8.Valid(f[5:]):
		raw = f[5:]
	case z.flags&zipUTF8 != 0 || z.unix() || utf8.Valid(raw):
	default:
		var b strings.Builder
		for _, c := range raw {
			if c < 0x80 {
				b.WriteByte(c)
			} else {
				b.WriteRune(cp437[c-0x80])
			}
		}
		raw, recoded = []byte(b.String()), true
	}
	if !z.unix() || s.backslash {
		raw = bytes.ReplaceAll(raw, []byte(`\`), []byte("/"))
		if len(raw) > 2 && raw[1] == ':' && raw[2] == '/' {
			raw = raw[2:]
		}
	}
	const dosDir = 1 << 4
	dir = bytes.HasSuffix(raw, []byte("/")) || !z.unix() && z.attrs&dosDir != 0
	return string(raw), dir, recoded
}
