package lanetest

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/dubway/dubway/internal/lane"
)

// The statuses of answers.
const (
	statusOK    = 20
	statusError = 70
)

// The sizes of answers, in bytes.
const (
	small, middle = 2 << 10, 200 << 10
	large         = 3 << 20
)

// answer is what a provider says to a call; all of its bytes follow from it.
type answer struct {
	call     *Call
	provider byte
	size     int
	kind     byte // of the body: a value, null, or an exception
	status   byte
}

// spread is a number that follows from a call and looks like chance.
func (c *Call) spread() uint64 {
	x := (c.number() + 1) * 0x9e3779b97f4a7c15
	x ^= x >> 29
	x *= 0xbf58476d1ce4e5b9
	return x ^ x>>32
}

// answered is what a provider says: mostly a value, half of them small, at times null, an
// exception, an error, or what no write into a lane holds.
func (c *Call) answered(provider byte, most int) answer {
	x := c.spread()
	a := answer{call: c, provider: provider, kind: 4, status: statusOK}
	limit := min(small, most)
	if x>>8&1 == 0 {
		limit = min(middle, most)
	}
	a.size = int((x >> 9) % uint64(limit+1))
	switch n := x >> 40 % 4000; {
	case n == 0 && most >= middle:
		a.size = large / 4 * int(1+x>>52&3)
	case n < 40:
		a.kind = 3
	case n < 60:
		a.kind = 0x5 // null
	case n < 80 && c.Method != Held: // that would be sent again
		a.status = statusError
	case n < 1000:
		a.kind = 1
	}
	return a
}

// append appends the frame.
func (a *answer) append(b []byte, id uint64) []byte {
	s := a.call.Serialization
	start := len(b)
	b = appendHeader(b, s, a.status, id)
	switch {
	case a.status != statusOK && s == lane.Hessian2:
		return seal(text(b, failure(a.provider)), start)
	case a.status != statusOK:
		b = append(b, 0, 0, 0, byte(len(failure(a.provider))+1), byte(0x49+len(failure(a.provider))))
		return seal(append(b, failure(a.provider)...), start)
	case s == lane.Hessian2:
		b = append(b, 0x90+a.kind)
	default:
		b = append(b, 0, 0, 0, 2, 0xbd, a.kind) // as Java writes it
	}
	if a.kind == 3 && s == lane.Hessian2 {
		b = text(append(b, 'C'), "java.lang.RuntimeException")
		b = text(append(b, 0x91), "detailMessage")
		b = text(append(b, 0x60), "as it was asked")
	}
	if s == lane.Hessian2 && (a.kind == 1 || a.kind == 4) {
		b = long(b, a.size)
	}
	b = append(a.call.token(b), a.provider)
	b = fill(b, a.call.number()^uint64(a.provider)<<56, a.size)
	return seal(append(b, 'H', 'Z'), start)
}

// failure is the text of an error of a provider's.
func failure(provider byte) string { return fmt.Sprint("as ", provider, " was asked") }

// refused tells whether an answer is the mesh's own, which says so.
func (c *Call) refused(frame []byte) bool {
	return frame[3] != statusOK && bytes.Contains(frame, []byte("dubway: "))
}

// match compares an answer's frame with what the call must get, from whichever provider.
func (c *Call) match(frame []byte, providers, most int, scratch *[]byte) (provider byte, err error) {
	id := binary.BigEndian.Uint64(frame[4:])
	for n := range byte(providers) {
		a := c.answered(n, most)
		*scratch = a.append((*scratch)[:0], id)
		if bytes.Equal(*scratch, frame) {
			return n, nil
		}
	}
	return 0, fmt.Errorf("call %d of connection %d: %d bytes, status %d, are not the answer: %q",
		c.Seq, c.Conn, len(frame), frame[3], frame[:min(len(frame), 100)])
}
