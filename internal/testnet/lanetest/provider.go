package lanetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/internal/lane"
)

// Provider answers calls out of order, in one write each, in one for many, or in pieces, and
// now and then with a heartbeat of its own between them. To who subscribes it calls back.
type Provider struct {
	Number byte // tells its answers from another's
	Most   int  // of an answer's size, but for a few

	books   books
	callers atomic.Uint64
}

// Callbacks is how often a subscriber is called back.
const Callbacks = 20

// Serve serves at a listener, and shows its book at another.
func (p *Provider) Serve(l, book net.Listener) error {
	failed := make(chan error, 2)
	go func() { failed <- p.books.show(book) }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				failed <- fmt.Errorf("serve: %w", err)
				return
			}
			s := &served{p: p, c: c, out: make(chan reply, 256), ended: make(chan struct{}), waiting: map[uint64][]byte{}}
			go s.write()
			go s.read()
		}
	}()
	return <-failed
}

// reply is what is to be written: an answer, or anything else.
type reply struct {
	id   uint64
	call *Call
	raw  []byte
}

// served is one connection.
type served struct {
	p     *Provider
	c     net.Conn
	out   chan reply
	ended chan struct{} // closed when nobody writes any more

	mu      sync.Mutex
	waiting map[uint64][]byte // the answers that calls back must get, by id
}

func (s *served) read() {
	defer s.c.Close()
	defer close(s.out)
	r := lanetest.NewReader(s.c)
	var scratch []byte
	for {
		frame, err := r.Next()
		if err == nil && frame == nil {
			err = r.More()
			if err == nil {
				continue
			}
		}
		if err == nil {
			err = s.take(frame, &scratch)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) {
			return
		}
		if err != nil {
			s.p.books.wrong(err)
			return
		}
	}
}

func (s *served) take(frame []byte, scratch *[]byte) error {
	flags, id := frame[2], binary.BigEndian.Uint64(frame[4:])
	switch {
	case flags&flagEvent != 0 && flags&flagRequest != 0:
		s.p.books.change(func(b *Book) { b.Beats++ })
		s.put(reply{raw: seal(append(appendHeader(nil, flagEvent|lane.Hessian2, statusOK, id), 'N'), 0)})
		return nil
	case flags&flagEvent != 0:
		return nil
	case flags&flagRequest == 0:
		return s.answered(id, frame)
	}
	c, err := read(frame, scratch)
	if err != nil {
		return err
	}
	s.p.books.served(&c)
	if c.OneWay {
		return nil
	}
	s.put(reply{id: id, call: &c})
	if c.Method == Subscribe {
		for range Callbacks {
			s.callBack()
		}
	}
	return nil
}

func (s *served) put(r reply) {
	select {
	case s.out <- r:
	case <-s.ended:
	}
}

// callBack calls the consumer.
func (s *served) callBack() {
	id := s.p.callers.Add(1)
	b := appendHeader(nil, flagRequest|flagTwoWay|lane.Hessian2, 0, id)
	b = append(text(text(b, "2.0.2"), Listener), 'N')
	b = fill(long(text(text(b, "on"), "[B"), 1000), id, 1000)
	b = append(b, 'H')
	for _, pair := range [][2]string{{"callback.service.instid", "1"}, {"path", Listener}} {
		b = text(text(b, pair[0]), pair[1])
	}
	b = seal(append(b, 'Z'), 0)
	s.mu.Lock()
	s.waiting[id] = answerBack(id, b)[headerLen:]
	s.mu.Unlock()
	s.put(reply{raw: b})
}

// answerBack is what a consumer says to a call back: all of its bytes.
func answerBack(id uint64, frame []byte) []byte {
	return seal(append(append(appendHeader(nil, lane.Hessian2, statusOK, id), 0x91), frame[headerLen:]...), 0)
}

func (s *served) answered(id uint64, frame []byte) error {
	s.mu.Lock()
	want, ok := s.waiting[id]
	delete(s.waiting, id)
	s.mu.Unlock()
	if !ok || frame[3] != statusOK || !bytes.Equal(frame[headerLen:], want) {
		return fmt.Errorf("call back %d: known: %t; its answer is %q", id, ok, frame[:min(len(frame), 100)])
	}
	s.p.books.change(func(b *Book) { b.Back++ })
	return nil
}

// write writes what is to be written, in no order.
func (s *served) write() {
	defer close(s.ended)
	rnd := rand.New(rand.NewPCG(s.p.callers.Add(1), 1))
	var all []reply
	var out []byte
	for first := range s.out {
		all = append(all[:0], first)
		for more := true; more && len(all) < 16; {
			select {
			case r, ok := <-s.out:
				if more = ok; ok {
					all = append(all, r)
				}
			default:
				more = false
			}
		}
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		together := rnd.IntN(2) == 0
		out = out[:0]
		for _, r := range all {
			out = s.append(out, r)
			if !together {
				if s.send(out, rnd) != nil {
					return
				}
				out = out[:0]
			}
		}
		if rnd.IntN(500) == 0 {
			out = append(out, seal(append(appendHeader(nil, flagRequest|flagTwoWay|flagEvent|lane.Hessian2, 0, 1<<40), 'N'), 0)...)
		}
		if s.send(out, rnd) != nil {
			return
		}
	}
}

func (s *served) append(out []byte, r reply) []byte {
	if r.call == nil {
		return append(out, r.raw...)
	}
	a := r.call.answered(s.p.Number, s.p.Most)
	return a.append(out, r.id)
}

// send writes b, one time in eight in pieces.
func (s *served) send(b []byte, rnd *rand.Rand) error {
	pieces := rnd.IntN(8) == 0
	for len(b) > 0 {
		n := len(b)
		if pieces {
			n = 1 + rnd.IntN(n)
		}
		if _, err := s.c.Write(b[:n]); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		b = b[n:]
	}
	return nil
}
