// Package position is how far a connection with a lane has been read, in sequence numbers: it
// tells the programs, and a proxy that comes after this one. It reads nothing itself.
package position

import (
	"sync"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/sock"
)

// Told is where it is written down.
type Told struct {
	Course *lane.Course // for the programs
	// Reading is given the sequence number behind the last frame of which any byte was read,
	// for the proxy that comes after one that dies. It must not wait.
	Reading func(end uint32)
}

// Position is that of one connection. New, Here, Got and Read are the reading goroutine's, the
// others any one's. Nil is a connection whose numbers nobody knows, and does nothing.
type Position struct {
	conn   *sock.Conn
	frames codec.Frames
	base   uint32 // of the connection's first byte

	mu   sync.Mutex
	told Told
	next uint32 // where a frame begins, the last place that is known
	end  uint32 // of Told.Reading
}

// New returns the position of a connection on which a frame begins at the first byte that is
// buffered. Copied is the sequence number of the next one that is read.
func New(c *sock.Conn, frames codec.Frames, copied uint32) *Position {
	p := &Position{conn: c, frames: frames, base: copied - c.Taken()}
	p.Here()
	return p
}

// Here says that a frame begins at the first byte that is buffered, or at the next one.
func (p *Position) Here() {
	p.mu.Lock()
	p.next = p.first()
	p.end = p.next
	if p.told.Course != nil {
		p.told.Course.Start(p.next)
	}
	p.mu.Unlock()
	p.Got()
}

// Got says that bytes were read from the connection. Where their frames end is told at once.
func (p *Position) Got() {
	if p == nil {
		return
	}
	more, ok := ahead(p.frames, p.conn.Bytes())
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = p.base + p.conn.Taken() + more
	if p.told.Reading != nil {
		p.told.Reading(p.end)
	}
}

// Read says that the first bytes that are buffered, whole frames, are going to be discarded.
func (p *Position) Read(used int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.first()
	p.next = first + uint32(used)
	if p.told.Course != nil {
		p.told.Course.Follow(first, p.conn.Bytes()[:used])
	}
}

// first is the first byte that is buffered.
func (p *Position) first() uint32 {
	return p.base + p.conn.Taken() - uint32(len(p.conn.Bytes()))
}

// Tell tells from now on, what is known already at once.
func (p *Position) Tell(to Told) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = to
	to.Reading(p.end)
	to.Course.Start(p.next)
}

// GoOn is Tell where a proxy before this one told: nothing is, until Here.
func (p *Position) GoOn(to Told) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = to
}

// Hush tells nothing any more.
func (p *Position) Hush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = Told{}
}

// ahead returns how far the last frame of which b has a part goes beyond b, where a frame
// begins. False: its header is not whole.
func ahead(frames codec.Frames, b []byte) (n uint32, ok bool) {
	for len(b) > 0 {
		h, err := frames.ParseHeader(b)
		if err != nil {
			return 0, false
		}
		if h.Len() > len(b) {
			return uint32(h.Len() - len(b)), true
		}
		b = b[h.Len():]
	}
	return 0, true
}
