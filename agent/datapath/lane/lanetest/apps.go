package lanetest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Provider is an application that answers requests.
type Provider struct {
	Methods  []string
	Size     func(id uint64) int  // of the answer
	Status   func(id uint64) byte // nil: 20
	Pieces   int                  // percent of the answers that are written in pieces
	Together int                  // answers of one write, at most; 0: one
	Served   atomic.Int64
	errs     chan error
}

// NewProvider makes one whose answers have sizes.
func NewProvider(size func(id uint64) int, methods ...string) *Provider {
	return &Provider{Methods: methods, Size: size, errs: make(chan error, 16)}
}

// Serve answers what comes by a connection, until it ends.
func (p *Provider) Serve(c *net.TCPConn) {
	go func() {
		if err := p.serve(c); !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
			select {
			case p.errs <- err:
			default:
			}
		}
	}()
}

// Err returns what was wrong with a request.
func (p *Provider) Err() error {
	select {
	case err := <-p.errs:
		return err
	default:
		return nil
	}
}

func (p *Provider) serve(c *net.TCPConn) error {
	r := NewReader(c)
	rnd := rand.New(rand.NewPCG(1, 2))
	var out []byte
	for {
		if err := r.More(); err != nil {
			return err
		}
		n := 0
		for {
			raw, err := r.Next()
			if err != nil {
				return err
			}
			if raw != nil {
				f, err := Check(raw, p.Methods)
				if err != nil {
					return err
				}
				p.Served.Add(1)
				if f.Kind != Call {
					continue
				}
				out = p.answer(f).Append(out)
				n++
			}
			if len(out) > 0 && (raw == nil || n >= max(p.Together, 1)) {
				if err := p.write(c, out, rnd); err != nil {
					return err
				}
				out, n = out[:0], 0
			}
			if raw == nil {
				break
			}
		}
	}
}

func (p *Provider) answer(f Frame) Frame {
	a := Frame{Kind: Answer, Serialization: f.Serialization, ID: f.ID, Size: p.Size(f.ID)}
	if p.Status != nil {
		a.Status = p.Status(f.ID)
	}
	return a
}

func (p *Provider) write(c *net.TCPConn, b []byte, rnd *rand.Rand) error {
	pieces := rnd.IntN(100) < p.Pieces
	for len(b) > 0 {
		n := len(b)
		if pieces {
			n = 1 + rnd.IntN(n)
		}
		if _, err := c.Write(b[:n]); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		b = b[n:]
	}
	return nil
}

// Consumer is an application that calls, and knows what it has to be answered.
type Consumer struct {
	c       *net.TCPConn
	of      *Provider
	mu      sync.Mutex
	pending map[uint64]bool
	room    chan struct{} // one for each call that may be in flight
	done    chan error
	Beats   atomic.Int64
	Asleep  atomic.Bool // it does not read
	Answers atomic.Int64
}

// NewConsumer reads the answers that come by a connection; so many calls may wait for
// theirs.
func NewConsumer(c *net.TCPConn, most int, of *Provider) *Consumer {
	k := &Consumer{
		c: c, of: of, pending: map[uint64]bool{}, room: make(chan struct{}, most), done: make(chan error, 1),
	}
	go func() { k.done <- k.read() }()
	return k
}

// Expect notes a call that is about to be sent, when there is room for it.
func (k *Consumer) Expect(f Frame) error {
	if f.Kind != Call {
		return nil
	}
	select {
	case k.room <- struct{}{}:
	case err := <-k.done:
		k.done <- err
		return fmt.Errorf("the reader ended: %w", err)
	case <-time.After(60 * time.Second):
		return fmt.Errorf("no answer for 60 s: %d calls wait", k.Waiting())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pending[f.ID] = true
	return nil
}

// Waiting is how many calls have no answer yet.
func (k *Consumer) Waiting() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.pending)
}

// Settle waits until all calls have their answers.
func (k *Consumer) Settle() error {
	deadline := time.Now().Add(60 * time.Second)
	for k.Waiting() > 0 {
		select {
		case err := <-k.done:
			k.done <- err
			return fmt.Errorf("the reader ended with %d calls waiting: %w", k.Waiting(), err)
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d calls have no answer after 60 s", k.Waiting())
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

func (k *Consumer) read() error {
	r := NewReader(k.c)
	for {
		for k.Asleep.Load() {
			time.Sleep(time.Millisecond)
		}
		if err := r.More(); err != nil {
			return err
		}
		for {
			raw, err := r.Next()
			if err != nil {
				return err
			}
			if raw == nil {
				break
			}
			if err := k.take(raw); err != nil {
				return err
			}
		}
	}
}

func (k *Consumer) take(raw []byte) error {
	f, err := Check(raw, nil)
	if err != nil {
		return err
	}
	if f.Kind == Beat {
		k.Beats.Add(1)
		return nil
	}
	k.mu.Lock()
	known := k.pending[f.ID]
	delete(k.pending, f.ID)
	k.mu.Unlock()
	if !known {
		return fmt.Errorf("answer %d is to no call, or the second", f.ID)
	}
	if f != k.of.answer(Frame{Serialization: f.Serialization, ID: f.ID}) {
		return fmt.Errorf("answer %d is another's: %d bytes, status %d", f.ID, f.Size, f.Status)
	}
	k.Answers.Add(1)
	<-k.room
	return nil
}
