package selftest

import (
	"encoding/binary"
	"slices"

	"github.com/dubway/dubway/internal/lane"
)

// known has a route, unknown has none.
const (
	known   = "known"
	unknown = "unknown"
)

// names are the bytes behind the header of a request for a method, in hessian2, up to its end.
func names(method string) []byte {
	var b []byte
	for _, s := range []string{"2.0.2", "org.dubway.SelfTest", "0.0.0", method} {
		b = append(append(b, byte(len(s))), s...)
	}
	return b
}

// request is the next request for a method with a body of a size in bytes.
func (b *bench) request(method string, size int) []byte {
	b.id++
	return frame([2]byte{0xc0 | lane.Hessian2}, b.id, names(method), size)
}

// requests are n of them.
func (b *bench) requests(n int, method string, size int) []byte {
	var all []byte
	for range n {
		all = append(all, b.request(method, size)...)
	}
	return all
}

// answer is that to a request, of a size in bytes.
func answer(id uint64, size int) []byte {
	return frame([2]byte{lane.Hessian2, 20}, id, []byte{0x94}, size)
}

// frame is one of a kind and status, whose bytes follow from its id.
func frame(kind [2]byte, id uint64, begin []byte, size int) []byte {
	b := binary.BigEndian.AppendUint64([]byte{0xda, 0xbb, kind[0], kind[1]}, id)
	b = binary.BigEndian.AppendUint32(b, uint32(len(begin)+size))
	b = append(b, begin...)
	whole := len(b) + size
	b = slices.Grow(b, size+8)
	for x := id*0x9e3779b97f4a7c15 | 1; len(b) < whole; {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b[:whole]
}
