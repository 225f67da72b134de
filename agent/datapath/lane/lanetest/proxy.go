package lanetest

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/lane"
)

// Queued is how many bytes the consumer may have to read when the proxy writes to it.
const Queued = 1 << 20

// Proxy is as much of a proxy as one lane needs: it reads what takes the slow way, sends
// requests on by a connection that no lane knows, and answers back by the lane.
type Proxy struct {
	Number    uint32                    // of the lane
	Slow      atomic.Int64              // requests that it read
	Drawn     atomic.Int64              // of them, those that were drawn for a span
	Led       [lane.Shares]atomic.Int64 // and those that were drawn for a share
	There     [256]atomic.Int64         // of it for a candidate elsewhere, the last for any
	Ends      [lane.Ends]atomic.Int64   // and for an end that did not take them
	Returned  atomic.Int64              // answers in flight that it read from lanes' providers
	Late      atomic.Int64              // such answers that were not in flight
	Injected  atomic.Int64
	Paused    atomic.Int64 // times
	Left      atomic.Int64 // times that answers went back to TCP for want of memory
	Drop      atomic.Bool  // instead of sending requests on
	Mute      atomic.Bool  // it tells the programs nothing of where frames begin
	rig       *Rig
	memory    *lane.Memory
	lane      *lane.Lane
	consumer  *net.TCPConn   // A
	providers []*net.TCPConn // B
	plain     *net.TCPConn   // S
	writing   sync.Mutex     // of the consumer, and of flags
	readers   sync.WaitGroup
	errs      chan error
}

// NewProxy binds the sockets to a lane, whose requests it does not open yet. Plain is where
// slow requests go to.
func (r *Rig) NewProxy(number uint32, consumer Pair, providers []Pair, plain Pair) *Proxy {
	r.TB.Helper()
	p := &Proxy{
		Number: number, rig: r, memory: r.Memory, lane: &r.Memory.Lanes[number],
		consumer: consumer.Proxy, plain: plain.Proxy, errs: make(chan error, 16),
	}
	*p.lane = lane.Lane{}
	s := Ask(r.TB, p.consumer, lane.AskBind, lane.Place(number, lane.Consumer))
	p.lane.Course.Start(s.Copied)
	p.read(p.consumer, s.Copied, &p.lane.Course, p.onRequest)
	for i, pair := range providers {
		p.providers = append(p.providers, pair.Proxy)
		s := Ask(r.TB, pair.Proxy, lane.AskBind, lane.Place(number, uint8(i)))
		p.lane.Ends[i].Course.Start(s.Copied)
		p.read(pair.Proxy, s.Copied, &p.lane.Ends[i].Course, p.onReturned)
	}
	p.read(p.plain, 0, new(lane.Course), func(raw []byte) error { return p.inject(raw) })
	r.TB.Cleanup(func() {
		for _, c := range append(p.providers, p.consumer, p.plain) {
			c.Close()
		}
		p.readers.Wait()
	})
	return p
}

// Active is where requests in flight to an end are counted.
func Active(end int) uint16 { return uint16(1 + end) }

// Class makes the lane's requests for methods go to all of its ends, in turn, by routes of
// the class.
func (p *Proxy) Class(class uint32, policy uint8, methods ...string) {
	p.rig.TB.Helper()
	for _, serialization := range []byte{lane.Hessian2, lane.Fastjson2} {
		for _, method := range methods {
			var route lane.Route
			Must(p.rig.TB, route.Name(class, serialization, Names(serialization, method)))
			route.Count = 1
			s := &route.Shares[0]
			s.UpTo, s.Policy, s.Count = ^uint32(0), policy, uint8(len(p.providers))
			for i := range p.providers {
				s.Choices[i] = uint8(i)
			}
			for i := range route.Series {
				route.Series[i], route.Actives[i] = uint32(serialization), Active(i)
			}
			route.Flags = lane.CountsActive
			place, _, ok := p.memory.Find(&route, nil)
			if !ok {
				p.rig.TB.Fatal("no place for a route")
			}
			p.memory.Put(place, &route)
		}
	}
	atomic.StoreUint32(&p.lane.Class, class)
}

// read reads frames of a connection and tells how far it is.
func (p *Proxy) read(c *net.TCPConn, seq uint32, course *lane.Course, f func(raw []byte) error) {
	p.readers.Go(func() {
		r := NewReader(c)
		for {
			if err := r.More(); err != nil {
				return
			}
			for {
				raw, err := r.Next()
				if err == nil && raw != nil {
					err = f(raw)
				}
				if err != nil {
					p.fail(err)
					return
				}
				if raw == nil {
					break
				}
				if !p.Mute.Load() {
					course.Follow(seq, raw)
				}
				seq += uint32(len(raw))
			}
		}
	})
}

func (p *Proxy) fail(err error) {
	if errors.Is(err, net.ErrClosed) {
		return
	}
	select {
	case p.errs <- err:
	default:
	}
}

// Err returns what went wrong in a reader, if anything.
func (p *Proxy) Err() error {
	select {
	case err := <-p.errs:
		return err
	default:
		return nil
	}
}

func (p *Proxy) onRequest(raw []byte) error {
	kind := Kind(raw[2] & 0xe0)
	if kind == Heartbeat {
		beat := Frame{Kind: Beat, Serialization: raw[2] & 0x1f, ID: idOf(raw)}
		return p.inject(beat.Append(nil))
	}
	p.Slow.Add(1)
	d := p.memory.Drawn(p.Number, idOf(raw))
	if number, led := d.Share(); led {
		p.Led[number].Add(1)
	}
	if number, ok := d.There(); ok {
		p.There[number&0xff].Add(1)
	}
	if number, ok := d.End(); ok {
		p.Ends[number].Add(1)
	}
	if d.Span() {
		p.Drawn.Add(1)
	}
	if p.Drop.Load() {
		return nil
	}
	if _, err := p.plain.Write(raw); err != nil {
		return fmt.Errorf("send request on: %w", err)
	}
	return nil
}

func (p *Proxy) onReturned(raw []byte) error {
	if Kind(raw[2]&0xe0) != Answer {
		return nil
	}
	f, ok := p.memory.Take(p.Number, idOf(raw))
	if !ok {
		p.Late.Add(1)
		return nil
	}
	p.Returned.Add(1)
	if bound := p.memory.Routes[f.Route].Bounds[f.End]; bound != 0 {
		atomic.AddUint64(&p.memory.Active[bound], ^uint64(0))
	}
	atomic.AddUint64(&p.memory.Active[Active(int(f.End))], ^uint64(0))
	return p.inject(raw)
}

// inject writes a frame to the consumer.
func (p *Proxy) inject(raw []byte) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.Injected.Add(1)
	if p.flags()&lane.Answers == 0 {
		return p.write(raw)
	}
	var scarce bool
	err := p.waitConsumer(func(s lane.State) bool {
		scarce = s.Room() != nil
		return scarce || s.Queued <= Queued
	})
	if err == nil && scarce {
		err = p.leave()
	}
	if err != nil {
		return err
	}
	if p.flags()&lane.Answers == 0 {
		return p.write(raw)
	}
	if len(raw) <= lane.MaxWrite {
		return p.write(raw)
	}
	p.Paused.Add(1)
	p.set(lane.Paused, 0)
	defer p.set(0, lane.Paused)
	if err := lane.Quiesce(); err != nil {
		return err
	}
	if err := p.waitConsumer(func(s lane.State) bool { return s.Holders == 0 }); err != nil {
		return err
	}
	for len(raw) > 0 {
		n := min(len(raw), lane.MaxWrite)
		if err := p.write(raw[:n]); err != nil {
			return err
		}
		raw = raw[n:]
	}
	return nil
}

// leave makes all answers take TCP. The write side of the consumer is held.
func (p *Proxy) leave() error {
	p.Left.Add(1)
	return p.part()
}

// part lets what providers answer arrive, and makes their answers take TCP from here on. The
// write side of the consumer is held.
func (p *Proxy) part() error {
	p.set(lane.Paused, 0)
	if err := lane.Quiesce(); err != nil {
		return err
	}
	if err := p.waitConsumer(func(s lane.State) bool { return s.Holders == 0 }); err != nil {
		return err
	}
	p.set(0, lane.Answers|lane.Paused)
	return nil
}

func (p *Proxy) write(raw []byte) error {
	if _, err := p.consumer.Write(raw); err != nil {
		return fmt.Errorf("write to consumer: %w", err)
	}
	return nil
}

// waitConsumer waits until the consumer's state is such; a consumer that is gone is.
func (p *Proxy) waitConsumer(f func(lane.State) bool) error {
	return p.wait("the consumer's state", func() (bool, error) {
		s, err := TryAsk(p.consumer, lane.AskState, 0)
		return err == nil && (s.Peer == 0 || f(s)), err
	})
}

func (p *Proxy) wait(what string, f func() (bool, error)) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		ok, err := f()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not after 30 s", what)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

func (p *Proxy) flags() uint32 { return atomic.LoadUint32(&p.lane.Flags) }

func (p *Proxy) set(on, off uint32) { atomic.StoreUint32(&p.lane.Flags, p.flags()&^off|on) }

// Open lets requests and answers take the lane. Answers do when the consumer has read what
// it was sent by TCP.
func (p *Proxy) Open(flags uint32) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	if err := p.waitConsumer(func(s lane.State) bool { return s.Unread == 0 }); err != nil {
		return err
	}
	for i := range p.providers {
		atomic.StoreUint32(&p.lane.Ends[i].Flags, lane.EndOpen)
	}
	p.set(lane.Requests|lane.Answers|flags, 0)
	return nil
}

// Close brings requests and answers back to TCP, without the loss of a byte.
func (p *Proxy) Close() error {
	p.writing.Lock()
	p.set(0, lane.Requests)
	p.writing.Unlock()
	if err := lane.Quiesce(); err != nil {
		return err
	}
	for _, c := range p.providers {
		err := p.wait("a provider's holders", func() (bool, error) {
			s, err := TryAsk(c, lane.AskState, 0)
			return s.Holders == 0, err
		})
		if err != nil {
			return err
		}
	}
	if err := p.wait("flights", func() (bool, error) { return p.InFlight() == 0, nil }); err != nil {
		return err
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	for i := range p.providers {
		atomic.StoreUint32(&p.lane.Ends[i].Flags, 0)
	}
	return p.part()
}

// InFlight is how many requests are in flight in the lane.
func (p *Proxy) InFlight() (n int) {
	p.memory.InFlight(p.Number, func(uint64, lane.Flight) bool { n++; return true })
	return n
}

// Lane is what the programs and the proxy know of the lane.
func (p *Proxy) Lane() *lane.Lane { return p.lane }

func idOf(raw []byte) uint64 {
	var id uint64
	for _, b := range raw[4:12] {
		id = id<<8 | uint64(b)
	}
	return id
}
