package selftest

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/lane"
)

// split: such an answer takes the slow way whole, and the next does not.
func (b *bench) split() error {
	if err := b.arrives(2, b.requests(2, known, 100)); err != nil {
		return err
	}
	text := answer(b.id-1, 9000)
	return first(
		func() error { return b.p.write(text, 5000) },
		func() error { return b.b.read(text) },
		b.quiet,
		func() error {
			if _, ok := b.memory.Take(b.number, b.id-1); !ok {
				return errors.New("its request is in flight no more")
			}
			return b.resume()
		},
		func() error { return b.answers(1, 50) },
	)
}

// inject: answers, and what the proxy writes, arrive one behind the other.
func (b *bench) inject() error {
	if err := b.arrives(1, b.request(known, 100)); err != nil {
		return err
	}
	proxys, own, last := answer(1, 3000), answer(b.id, 40_000), answer(2, 100)
	return first(
		func() error { return b.a.write(proxys, whole) },
		func() error { return b.p.write(own, whole) },
		func() error { return b.a.write(last, whole) },
		func() error { return b.c.read(append(append(proxys, own...), last...)) },
		b.quiet,
	)
}

// large: what does not fit into one message is written while no answer can come between.
func (b *bench) large() error {
	if err := b.arrives(1, b.request(known, 100)); err != nil {
		return err
	}
	l := b.lane()
	text, own := answer(1, 700_000), answer(b.id, 100)
	atomic.StoreUint32(&l.Flags, lane.Requests|lane.Answers|lane.Paused)
	err := first(
		lane.Quiesce,
		func() error {
			return b.until(b.a, "nobody holds a consumer that nothing is on its way to", func(s lane.State) bool { return s.Holders == 0 })
		},
		func() error { return b.a.write(text[:lane.MaxWrite], whole) },
		func() error { return b.p.write(own, whole) },
		func() error { return b.b.read(own) },
		func() error { return b.a.write(text[lane.MaxWrite:], whole) },
		func() error { return b.c.read(text) },
		b.quiet,
	)
	b.forget()
	atomic.StoreUint32(&l.Flags, lane.Requests|lane.Answers)
	if err != nil {
		return err
	}
	return first(b.resume, b.one)
}

// toggle: what was redirected is read before what comes by TCP then.
func (b *bench) toggle() error {
	l := b.lane()
	before, after, request := answer(1, 30_000), answer(2, 30_000), b.request(known, 500)
	atomic.StoreUint32(&l.Flags, lane.Answers|lane.Paused)
	return first(
		func() error { return b.a.write(before, whole) },
		lane.Quiesce,
		func() error {
			return b.until(b.a, "nobody holds the consumer", func(s lane.State) bool { return s.Holders == 0 })
		},
		func() error { atomic.StoreUint32(&l.Flags, 0); return nil },
		func() error { return b.a.write(after, whole) },
		func() error { return b.c.write(request, whole) },
		func() error { return b.c.read(append(before, after...)) },
		func() error { return b.a.read(request) },
		b.quiet, b.open, b.one,
	)
}

// dead: what was redirected before an end is read before it, and who has seen the end does
// not write into the lane (T12).
func (b *bench) dead() error {
	if err := b.arrives(1, b.request(known, 100)); err != nil {
		return err
	}
	text := answer(b.id, 30_000)
	err := first(
		func() error { return b.p.write(text, whole) },
		func() error { b.a.close(); b.a = socket{}; return nil },
		func() error { return b.c.read(text) },
		b.c.end,
	)
	if err != nil {
		return err
	}
	for {
		_, err := b.c.try(b.request(known, 100))
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			break
		}
		if err == nil {
			err = b.c.wait(unix.POLLERR)
		}
		if err != nil {
			return err
		}
	}
	b.c.close()
	b.c = socket{}
	b.p.close()
	b.p = socket{}
	return first(
		func() error { return b.b.end() },
		func() error {
			return b.until(b.b, "a socket that is closed leaves the lanes", func(s lane.State) bool { return s.Peer == 0 })
		},
	)
}
