// Package outlet writes the answers of a proxy into a lane: whole frames, as many in one
// message as may be, because answers of providers come between two messages. It reads
// headers only, and knows neither who answers nor whom.
package outlet

import (
	"fmt"
	"net"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/sock"
)

// backlog is how many bytes may wait at a consumer before nothing more is written to it.
const backlog = 1 << 20

// The times between two looks at a consumer that is behind, and how long a look at its memory
// holds.
const (
	soon  = 100 * time.Microsecond
	late  = 20 * time.Millisecond
	fresh = time.Millisecond
)

// Gate is the lane, as what is written into it needs it. One goroutine at a time uses it.
type Gate interface {
	// Look returns what the kernel knows of the consumer.
	Look() (lane.State, error)
	// Pause keeps providers from answering directly, and returns when no such answer is on
	// its way.
	Pause() error
	// Resume ends Pause.
	Resume()
	// Leave, in a Pause, makes what is written from here on go by TCP, and ends the lane.
	Leave()
}

// Outlet is the way into one lane. Part of sock.Conn's write side, which calls it.
type Outlet struct {
	tcp    net.Conn
	frames codec.Frames
	gate   Gate

	looked  time.Time
	left    bool // for TCP
	room    int  // bytes that may be written before the consumer is looked at again
	rest    int  // bytes to come of a frame that is written in pieces
	total   int  // bytes of scratch
	scratch [][]byte
	vec     net.Buffers
}

var _ sock.Outlet = (*Outlet)(nil)

// New returns the way into a lane whose consumer is at the other end of tcp.
func New(tcp net.Conn, frames codec.Frames, gate Gate) *Outlet {
	return &Outlet{tcp: tcp, frames: frames, gate: gate}
}

// Whole tells whether what was written ends with a frame.
func (o *Outlet) Whole() bool { return o.rest == 0 }

// Write is part of sock.Outlet. Where a frame begins its header is there whole.
func (o *Outlet) Write(spans [][]byte) error {
	for _, b := range spans {
		for len(b) > 0 {
			n, err := o.next(b)
			if err != nil {
				return err
			}
			b = b[n:]
		}
	}
	return o.flush()
}

// next takes the next frame of b, or a piece of one.
func (o *Outlet) next(b []byte) (int, error) {
	if o.rest > 0 {
		return o.piece(b)
	}
	h, err := o.frames.ParseHeader(b)
	if err != nil {
		return 0, fmt.Errorf("write into lane: %w", err)
	}
	n := h.Len()
	if n > lane.MaxWrite || n > len(b) {
		if err := o.flush(); err != nil {
			return 0, err
		}
		if err := o.gate.Pause(); err != nil {
			return 0, err
		}
		o.rest = n
		return o.piece(b)
	}
	if o.total+n > lane.MaxWrite {
		if err := o.flush(); err != nil {
			return 0, err
		}
	}
	o.scratch = sock.Join(o.scratch, b[:n])
	o.total += n
	return n, nil
}

// piece writes some of a frame that has the lane for itself.
func (o *Outlet) piece(b []byte) (int, error) {
	n := min(o.rest, len(b), lane.MaxWrite)
	o.scratch, o.total = append(o.scratch, b[:n]), n
	if err := o.flush(); err != nil {
		return 0, err
	}
	if o.rest -= n; o.rest == 0 {
		o.gate.Resume()
	}
	return n, nil
}

// flush is one message.
func (o *Outlet) flush() error {
	if o.total == 0 {
		return nil
	}
	if err := o.wait(); err != nil {
		return err
	}
	o.room -= o.total
	o.vec = o.scratch
	_, err := o.vec.WriteTo(o.tcp)
	clear(o.scratch)
	o.scratch, o.total = o.scratch[:0], 0
	if err != nil {
		return fmt.Errorf("write into lane: %w", err)
	}
	return nil
}

// wait returns when the consumer has read enough: what is written into a lane is bounded
// by nobody else. Where there may be no memory for it, it takes TCP from here on, which wants
// the lane closed to providers.
func (o *Outlet) wait() error {
	for pause := soon; !o.left && (o.room <= 0 || time.Since(o.looked) > fresh); pause = min(2*pause, late) {
		state, err := o.gate.Look()
		if err != nil {
			return err
		}
		if state.Room() != nil {
			return o.leave()
		}
		o.looked = time.Now()
		if o.room = backlog - int(state.Queued); o.room <= 0 {
			time.Sleep(pause)
		}
	}
	return nil
}

// leave changes over to TCP, whose bytes are read behind those of the lane.
func (o *Outlet) leave() error {
	if err := o.gate.Pause(); err != nil {
		return err
	}
	o.gate.Leave()
	o.left = true
	return nil
}
