package selftest

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/lane"
)

// whole is a write that is not cut.
const whole = 1 << 30

// steps are the behaviours, in an order in which each finds what the one before left. The
// numbers in brackets are those of the traps in the comments of bpf/.
var steps = []struct {
	what string
	try  func(*bench) error
}{
	{"sockets join the lanes' map", (*bench).join},
	{"there is memory for what sockets are sent", (*bench).room},
	{"what no lane has a part in goes by TCP", (*bench).unbound},
	{"a lane begins on a live connection", (*bench).open},
	{"a request and its answer", (*bench).one},
	{"many requests in one write", (*bench).many},
	{"a request in many small writes, and the next", (*bench).pieces},
	{"a request from a sender that does not block", (*bench).partly},
	{"an unknown request between known ones", (*bench).between},
	{"a sender whose receiver does not read", (*bench).full},
	{"bytes are charged to who has to read them", (*bench).charged},
	{"an answer in two writes", (*bench).split},
	{"what the proxy writes between answers", (*bench).inject},
	{"an answer that is larger than one message", (*bench).large},
	{"the lane ends and begins again", (*bench).toggle},
	{"the end of a connection with bytes before it", (*bench).dead},
}

// first returns the first error of several.
func first(steps ...func() error) error {
	for _, try := range steps {
		if err := try(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) join() error {
	for who, s := range map[string]socket{"consumer's": b.a, "provider's": b.b} {
		state, err := ask(s, lane.AskState, 0)
		if err != nil {
			return err
		}
		if state.Peer == 0 {
			return fmt.Errorf("the %s is refused: another program has the sockets of this node "+
				"(OBI, Beyla and Cilium have such), or the kernel cannot", who)
		}
	}
	return nil
}

// room: the kernel can be asked for the memory of cgroups and of TCP, which both have some
// left.
func (b *bench) room() error {
	for who, s := range map[string]socket{"consumer's": b.a, "provider's": b.b} {
		state, err := ask(s, lane.AskState, 0)
		if err == nil {
			err = state.Room()
		}
		if err != nil {
			return fmt.Errorf("the %s, of this process: %w", who, err)
		}
	}
	return nil
}

func (b *bench) unbound() error {
	text := b.requests(3, known, 100)
	return first(
		func() error { return b.c.write(text, 70) }, func() error { return b.a.read(text) },
		func() error { return b.p.write(text, 70) }, func() error { return b.b.read(text) },
	)
}

func (b *bench) open() error {
	l := b.lane()
	if _, err := ask(b.a, lane.AskBind, lane.Place(b.number, lane.Consumer)); err != nil {
		return err
	}
	if _, err := ask(b.b, lane.AskBind, lane.Place(b.number, 0)); err != nil {
		return err
	}
	var r lane.Route
	if err := r.Name(1, lane.Hessian2, names(known)); err != nil {
		return err
	}
	r.Count = 1
	r.Shares[0] = lane.Share{UpTo: ^uint32(0), Count: 1}
	place, found, ok := b.memory.Find(&r, nil)
	if !ok {
		return errors.New("there is no place for a route")
	}
	if !found {
		b.memory.Put(place, &r)
	}
	atomic.StoreUint32(&l.Class, 1)
	atomic.StoreUint32(&l.Ends[0].Flags, lane.EndOpen)
	if err := b.resume(); err != nil {
		return err
	}
	if err := b.until(b.a, "the consumer reads what it was written by TCP", func(s lane.State) bool { return s.Unread == 0 }); err != nil {
		return err
	}
	atomic.StoreUint32(&l.Flags, lane.Requests|lane.Answers)
	return nil
}

// resume says that the proxy has read all that came by TCP.
func (b *bench) resume() error {
	consumer, err := ask(b.a, lane.AskState, 0)
	if err != nil {
		return err
	}
	provider, err := ask(b.b, lane.AskState, 0)
	if err != nil {
		return err
	}
	b.lane().Course.Start(consumer.Copied)
	b.lane().Ends[0].Course.Start(provider.Copied)
	return nil
}

// answers has the provider answer the last n requests in one write, by the lane.
func (b *bench) answers(n, size int) error {
	var all []byte
	for i := range n {
		all = append(all, answer(b.id-uint64(n-1-i), size)...)
	}
	answered := atomic.LoadUint64(&b.lane().Answered)
	return first(
		func() error { return b.p.write(all, whole) },
		func() error { return b.c.read(all) },
		b.quiet,
		func() error { return counted("answers", atomic.LoadUint64(&b.lane().Answered)-answered, n) },
		func() error {
			left := 0
			b.memory.InFlight(b.number, func(uint64, lane.Flight) bool { left++; return true })
			return counted("requests in flight behind the answers", uint64(left), 0)
		},
	)
}

// quiet says that nobody has bytes to read.
func (b *bench) quiet() error {
	return first(b.c.empty, b.a.empty, b.p.empty, b.b.empty)
}

// arrives has the consumer write requests that take the lane.
func (b *bench) arrives(n int, text []byte) error {
	before := atomic.LoadUint64(&b.lane().Requested)
	return first(
		func() error { return b.c.write(text, whole) },
		func() error { return b.p.read(text) },
		b.quiet,
		func() error { return counted("requests in the lane", atomic.LoadUint64(&b.lane().Requested)-before, n) },
	)
}

func counted(what string, got uint64, want int) error {
	if got != uint64(want) {
		return fmt.Errorf("%d %s, not %d", got, what, want)
	}
	return nil
}

func (b *bench) one() error {
	return first(
		func() error { return b.arrives(1, b.request(known, 100)) },
		func() error { return b.answers(1, 200) },
	)
}

func (b *bench) many() error {
	return first(
		func() error { return b.arrives(50, b.requests(50, known, 300)) },
		func() error { return b.answers(50, 30) },
	)
}

// pieces: a frame that is not there whole goes to the proxy, whose end is followed by another
// in the lane.
func (b *bench) pieces() error {
	for _, size := range []int{200_000, 1000} {
		text := b.request(known, size)
		err := first(
			func() error { return b.c.write(text, 777) },
			func() error { return b.a.read(text) },
			b.quiet, b.one,
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// partly: writes that are larger than what the sender may have under way.
func (b *bench) partly() error {
	if err := unix.SetsockoptInt(b.c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 16<<10); err != nil {
		return fmt.Errorf("make the sender's buffer small: %w", err)
	}
	return first(
		func() error { return b.arrives(3, b.requests(3, known, 150_000)) },
		func() error { return b.answers(3, 100) },
	)
}

// between: what follows a redirect in the same message is not where that went (T1), has its
// own length (T2), and is followed by more (T5).
func (b *bench) between() error {
	for range 3 {
		known2, rest := b.requests(2, known, 300), append(b.request(unknown, 5000), b.request(known, 100)...)
		text := append(append([]byte{}, known2...), rest...)
		again := b.request(unknown, 100)
		err := first(
			func() error { return b.c.write(text, whole) },
			func() error { return b.p.read(known2) },
			func() error { return b.a.read(rest) },
			func() error { return b.c.write(again, whole) },
			func() error { return b.a.read(again) },
			b.quiet,
		)
		if err != nil {
			return err
		}
		b.forget()
		if err := first(b.resume, b.one); err != nil {
			return fmt.Errorf("and then: %w", err)
		}
	}
	return nil
}

// forget ends what is in flight: it will not be answered.
func (b *bench) forget() {
	b.memory.InFlight(b.number, func(id uint64, _ lane.Flight) bool {
		_, _ = b.memory.Take(b.number, id)
		return true
	})
}

// full: the slow way has TCP's back-pressure, a write that is cut short is gone on with
// where it stopped, and the lane finds its place again.
func (b *bench) full() error {
	const frames = 400
	text := b.requests(frames, unknown, 20_000)
	at, idle := 0, 0
	for at < len(text) && idle < 3 {
		n, err := b.c.try(text[at:min(at+30_000, len(text))])
		if err != nil {
			return err
		}
		if at += n; n == 0 {
			idle++
			if err := b.c.wait(unix.POLLOUT); err != nil {
				return err
			}
		}
	}
	if at == len(text) {
		return fmt.Errorf("%d bytes were taken from a sender whose receiver does not read", at)
	}
	if err := b.a.read(text[:at]); err != nil {
		return err
	}
	frame := len(text) / frames
	text = text[:min(len(text), (at/frame+16)*frame)]
	for at < len(text) {
		n, err := b.c.try(text[at:min(at+30_000, len(text))])
		if err == nil && n == 0 {
			err = b.c.wait(unix.POLLOUT)
		}
		if err == nil {
			err = b.a.read(text[at : at+n])
		}
		if err != nil {
			return err
		}
		at += n
	}
	return first(b.quiet, b.resume, b.one)
}

// charged: the cap of what waits for a receiver is by what the kernel charges to it; and
// with bytes waiting, and none under way, nobody holds the receiver.
func (b *bench) charged() error {
	const size = 20_000
	state, err := ask(b.b, lane.AskState, 0)
	if err != nil {
		return err
	}
	var queued, passed []byte
	for range 100 {
		before := atomic.LoadUint64(&b.lane().Requested)
		text := b.request(known, size)
		if err := b.c.write(text, whole); err != nil {
			return err
		}
		if atomic.LoadUint64(&b.lane().Requested) > before {
			queued = append(queued, text...)
			continue
		}
		passed = text
		break
	}
	full, err := ask(b.b, lane.AskState, 0)
	if err != nil {
		return err
	}
	if grown := int(full.Queued) - int(state.Queued); passed == nil || grown < len(queued) {
		return fmt.Errorf("of %d bytes that wait for the provider %d are charged to it: nothing would bound what waits", len(queued), grown)
	}
	if err := lane.Quiesce(); err != nil {
		return err
	}
	err = first(
		func() error {
			return b.until(b.b, "nobody holds a provider that nothing is on its way to", func(s lane.State) bool { return s.Holders == 0 })
		},
		func() error { return b.p.read(queued) },
		func() error { return b.a.read(passed) },
		b.quiet,
		func() error {
			return b.until(b.b, "what was read is charged no more", func(s lane.State) bool { return s.Queued == 0 })
		},
	)
	b.forget()
	if err != nil {
		return err
	}
	return first(b.resume, b.one)
}
