package lane

import (
	"encoding/binary"
	"sync/atomic"
)

// header is that of a Dubbo2 frame, in bytes; the length of the rest stands at its end.
const header = 16

// Start says that a frame begins at seq.
func (c *Course) Start(seq uint32) { atomic.StoreUint64(&c.Resume, At(seq)) }

// Forget says that nothing is known: the connection is another.
func (c *Course) Forget() {
	atomic.StoreUint64(&c.Resume, 0)
	atomic.StoreUint64(&c.Guess, 0)
}

// Follow tells the programs of whole frames that were read, whose first byte has the
// sequence number seq: of where the next one begins, or that what they have guessed is so.
// Those frames may be any number, or none.
func (c *Course) Follow(seq uint32, frames []byte) {
	end := seq + uint32(len(frames))
	guess := atomic.LoadUint64(&c.Guess)
	switch {
	case guess == 0:
	case guess == atomic.LoadUint64(&c.Resume):
		return // it was not seen yet
	case begins(frames, uint32(guess)-seq):
		end = uint32(guess)
	}
	c.Start(end)
}

// begins tells whether a frame begins at an offset in whole frames, or behind them.
func begins(frames []byte, offset uint32) bool {
	at := uint64(0)
	for at < uint64(offset) && at+header <= uint64(len(frames)) {
		at += header + uint64(binary.BigEndian.Uint32(frames[at+header-4:]))
	}
	return at == uint64(offset)
}
