// Package packed keeps bytes that are much like each other in little memory: each body by
// what it has in common with the first of its like, and with itself. What a control plane
// sends of one service differs from what it sends of another by little more than a name.
//
// It is no format for disks or wires: what was packed is unpacked by the same Press, and
// nobody else made it.
package packed

import (
	"encoding/binary"
	"sync"
)

// Press packs bodies that are alike. The zero Press is ready. Its methods are safe for
// concurrent use.
type Press struct {
	once  sync.Once
	model []byte            // the first body
	at    [1 << bits]uint16 // by the hash of eight bytes: one more than where model has them
}

const (
	bits   = 12
	window = 8
	// longest is what the index of a model, or of a body, reaches.
	longest = 1<<16 - 1
)

// Pack packs a body, of which it keeps no part.
//
// A packed body is pairs of a run of bytes and a copy: uvarint(run), the bytes, and
// uvarint(copy), uvarint(where it begins in the model followed by the body).
func (p *Press) Pack(body []byte) string {
	p.once.Do(func() {
		p.model = append([]byte(nil), body[:min(len(body), longest)]...)
		for i := 0; i+window <= len(p.model); i++ {
			p.at[hash(p.model[i:])] = uint16(i + 1)
		}
	})
	var own [1 << bits]uint16
	out, from := make([]byte, 0, len(body)/4+16), 0
	for i := 0; i+window <= len(body); {
		h := hash(body[i:])
		where, n := 0, 0
		if at := int(own[h]) - 1; at >= 0 {
			where, n = len(p.model)+at, common(body[at:], body[i:])
		}
		if at := int(p.at[h]) - 1; at >= 0 {
			if m := common(p.model[at:], body[i:]); m > n {
				where, n = at, m
			}
		}
		if i < longest {
			own[h] = uint16(i + 1)
		}
		if n < window {
			i++
			continue
		}
		out = binary.AppendUvarint(out, uint64(i-from))
		out = append(out, body[from:i]...)
		out = binary.AppendUvarint(out, uint64(n))
		out = binary.AppendUvarint(out, uint64(where))
		i += n
		from = i
	}
	out = binary.AppendUvarint(out, uint64(len(body)-from))
	return string(append(out, body[from:]...))
}

// Unpack returns the body that was packed.
func (p *Press) Unpack(packed string) []byte {
	in := []byte(packed)
	next := func() int {
		n, size := binary.Uvarint(in)
		in = in[size:]
		return int(n)
	}
	var body []byte
	for {
		run := next()
		body = append(body, in[:run]...)
		if in = in[run:]; len(in) == 0 {
			return body
		}
		n, where := next(), next()
		if where < len(p.model) {
			body = append(body, p.model[where:where+n]...)
			continue
		}
		for i := range n { // it may overlap what it makes
			body = append(body, body[where-len(p.model)+i])
		}
	}
}

func hash(b []byte) uint64 {
	return binary.LittleEndian.Uint64(b) * 0x9e3779b97f4a7c15 >> (64 - bits)
}

// common counts the bytes at the beginning of both.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
