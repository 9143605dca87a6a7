package hostbox

import (
	"bytes"
	"crypto/sha512"
)

// sha512Crypt hashes a password as crypt(3) does with the setting "$6$SALT": what Linux, Dovecot, Apache and cPanel keep.
// Ulrich Drepper, "Unix crypt using SHA-256 and SHA-512", version 0.6, is the specification. A salt has at most 16
// bytes, none of them "$".
func sha512Crypt(password, salt string) string {
	const rounds = 5000
	p, s := []byte(password), []byte(salt)
	sum := func(parts ...[]byte) []byte {
		h := sha512.New()
		for _, part := range parts {
			h.Write(part)
		}
		return h.Sum(nil)
	}
	// stretch repeats a digest up to the length of what it stands for.
	stretch := func(digest []byte, n int) []byte {
		return bytes.Repeat(digest, n/len(digest)+1)[:n]
	}
	b := sum(p, s, p)
	first := [][]byte{p, s, stretch(b, len(p))}
	for n := len(p); n > 0; n >>= 1 {
		if n&1 == 1 {
			first = append(first, b)
		} else {
			first = append(first, p)
		}
	}
	a := sum(first...)
	ps := stretch(sum(bytes.Repeat(p, len(p))), len(p))
	ss := stretch(sum(bytes.Repeat(s, 16+int(a[0]))), len(s))
	for i := range rounds {
		parts := [][]byte{a}
		if i%2 == 1 {
			parts[0] = ps
		}
		if i%3 != 0 {
			parts = append(parts, ss)
		}
		if i%7 != 0 {
			parts = append(parts, ps)
		}
		if i%2 == 1 {
			parts = append(parts, a)
		} else {
			parts = append(parts, ps)
		}
		a = sum(parts...)
	}
	return "$6$" + salt + "$" + crypt64(a)
}

// crypt64 writes a SHA-512 digest in crypt's own alphabet and order of bytes.
func crypt64(digest []byte) string {
	const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var out []byte
	put := func(bits uint, n int) {
		for range n {
			out = append(out, alphabet[bits&63])
			bits >>= 6
		}
	}
	for x, y, z := 0, 21, 42; x != 63 && y != 63 && z != 63; x, y, z = y+1, z+1, x+1 {
		put(uint(digest[x])<<16|uint(digest[y])<<8|uint(digest[z]), 4)
	}
	put(uint(digest[63]), 2)
	return string(out)
}
