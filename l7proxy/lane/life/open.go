package life

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane/position"
)

// open connects to the providers, and joins the consumer.
func (l *Lane) open() error {
	ends := l.dial(l.missing())
	if len(ends) == 0 {
		return errNobody
	}
	l.at.Course.Forget() // of the lane before
	if err := l.join(); err != nil {
		for _, e := range ends {
			_ = e.conn.Close()
		}
		return err
	}
	for _, e := range ends {
		l.bind(e)
	}
	return nil
}

// join makes the consumer read from the lane: everything that was written to it by TCP has
// been read, and from here on nothing is.
func (l *Lane) join() error {
	c, kernel := l.consumer.Conn, l.node.Kernel
	for end := time.Now().Add(unreadLimit); time.Now().Before(end); time.Sleep(look) {
		if err := c.Acquire(); err != nil {
			return err
		}
		state, err := kernel.Ask(c, lane.AskState, 0)
		if err = errors.Join(err, state.Room()); err == nil && state.Unread == 0 {
			if _, err = kernel.Ask(c, lane.AskBind, lane.Place(l.Number, lane.Consumer)); err == nil {
				l.enter()
			}
			return errors.Join(err, c.Done(nil))
		}
		if err = errors.Join(err, c.Done(nil)); err != nil {
			return err
		}
	}
	return errUnread
}

// enter begins a lane whose consumer is bound. The write side of its connection is held.
func (l *Lane) enter() {
	l.joined = true
	l.Book.Memory.Undraw(l.Number) // what a lane before this one has left
	atomic.StoreUint32(&l.at.Class, l.Way.Class)
	l.node.Tally.Opened(l.Number, l.consumer.Source.Remote)
	l.node.Mu.Lock()
	l.since = time.Now()
	l.Tick(l.since, l.node.Tally.Wants()) // the clock would be late for the first calls
	l.node.Mu.Unlock()
	l.set(lane.Answers)
	l.divert()
	l.consumer.Position.Tell(l.reads())
}

// reads is where the lane says how far its consumer has been read.
func (l *Lane) reads() position.Told {
	return position.Told{Course: &l.at.Course, Reading: func(end uint32) {
		atomic.StoreUint64(&l.at.Reading, lane.At(end))
	}}
}

// missing are the ends that names lead to and that are not there.
func (l *Lane) missing() []uint8 {
	l.node.Mu.Lock()
	defer l.node.Mu.Unlock()
	var all []uint8
	for k := range uint8(lane.Ends) {
		if l.Way.Wanted&(1<<k) != 0 && l.ends[k] == nil {
			all = append(all, k)
		}
	}
	return all
}

// follow makes the lane what its names need: requests take it while it has every provider
// that a name leads to, lest those that it has get more than their share.
func (l *Lane) follow() {
	if missing := l.missing(); len(missing) > 0 && !l.is(&l.leaving) {
		l.clear(lane.Requests)
		for _, e := range l.dial(missing) {
			l.bind(e)
		}
	}
	l.node.Mu.Lock()
	defer l.node.Mu.Unlock()
	complete := l.Way.Wanted != 0 && !l.leaving
	for k, e := range l.ends {
		if wanted := l.Way.Wanted&(1<<k) != 0; wanted && (e == nil || e.shut) {
			complete = false
		}
	}
	if complete {
		l.set(lane.Requests)
	} else {
		l.clear(lane.Requests)
	}
}

// dial connects to ends of a lane. Those that cannot be reached are left to the proxy for
// a while, with all names that lead there.
func (l *Lane) dial(numbers []uint8) []*end {
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
	defer cancel()
	var all []*end
	for _, k := range numbers {
		l.node.Mu.Lock()
		address := l.Way.Ends[k]
		l.node.Mu.Unlock()
		c, err := l.node.Dialer.Lane(ctx, l.Way.Key.Workload, address, l.consumer.Source.Remote)
		if err != nil {
			l.refuse(address, err)
			continue
		}
		all = append(all, &end{lane: l, number: k, address: address, conn: c, done: make(chan struct{})})
	}
	return all
}

func (l *Lane) refuse(address netip.AddrPort, err error) {
	l.node.Logger.Debug("no short cut for a lane", "workload", l.Way.Key.Workload, "endpoint", address, "error", err)
	l.node.Mu.Lock()
	defer l.node.Mu.Unlock()
	l.Book.Refuse(l.Way, address, time.Now().Add(shortcut))
}
