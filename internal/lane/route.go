package lane

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
)

// Errors of Put.
var (
	ErrTooLong = errors.New("the names are too long for the lane")
	ErrFull    = errors.New("the lane's table of routes is full")
)

// The constants of Hash, as in bpf/lane_frame.h.
const (
	hashSeed = 0x9e3779b97f4a7c15
	hashMul  = 0xff51afd7ed558ccd
)

// Hash is that of a route, never 0: over class, serialization and length, and over the
// prefix in little-endian words of 8 bytes, the last one padded with zeros.
func Hash(class uint32, serialization uint8, prefix []byte) uint64 {
	h := mix(hashSeed, uint64(class)<<32|uint64(serialization)<<16|uint64(len(prefix)))
	for len(prefix) >= 8 {
		h = mix(h, binary.LittleEndian.Uint64(prefix))
		prefix = prefix[8:]
	}
	if len(prefix) > 0 {
		var last [8]byte
		copy(last[:], prefix)
		h = mix(h, binary.LittleEndian.Uint64(last[:]))
	}
	if h == 0 {
		return 1
	}
	return h
}

func mix(h, word uint64) uint64 {
	h = (h ^ word) * hashMul
	return h ^ h>>32
}

// Find returns the place of a route, or of where it may be put; false if there is none.
// One goroutine at a time finds and puts. Skip says which places are not free yet.
func (m *Memory) Find(r *Route, skip func(place uint32) bool) (place uint32, found, ok bool) {
	mask := uint64(m.Sizes.Routes - 1)
	free := int64(-1)
	for i := range uint64(probes) {
		at := uint32((r.Hash + i) & mask)
		have := &m.Routes[at]
		switch h := atomic.LoadUint64(&have.Hash); {
		case h == 0:
			if free < 0 && (skip == nil || !skip(at)) {
				free = int64(at)
			}
		case h == r.Hash && have.Class == r.Class && have.Serialization == r.Serialization &&
			have.Length == r.Length && have.Prefix == r.Prefix:
			return at, true, true
		}
	}
	return uint32(max(free, 0)), false, free >= 0
}

// Put writes a route, whose names are set, in a place that Find gave; then requests take it.
func (m *Memory) Put(place uint32, r *Route) {
	at := &m.Routes[place]
	hash := r.Hash
	r.Hash = 0
	*at = *r
	r.Hash = hash
	atomic.StoreUint64(&at.Hash, hash)
}

// Remove ends a route. Its place may be used again after Quiesce, and when no flight names
// it.
func (m *Memory) Remove(place uint32) { atomic.StoreUint64(&m.Routes[place].Hash, 0) }

// Name sets what a route is known by.
func (r *Route) Name(class uint32, serialization uint8, prefix []byte) error {
	if len(prefix) > Prefix {
		return ErrTooLong
	}
	r.Class, r.Serialization, r.Length = class, serialization, uint16(len(prefix))
	clear(r.Prefix[copy(r.Prefix[:], prefix):])
	r.Hash = Hash(class, serialization, prefix)
	return nil
}
