package life

import (
	"errors"
	"net/netip"
	"sync/atomic"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane/tally"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// close ends a lane that was joined. What is in flight has been answered, unless the
// consumer has gone.
func (l *Lane) close() error {
	l.clear(lane.Requests)
	for k := range l.at.Ends {
		atomic.StoreUint32(&l.at.Ends[k].Flags, 0)
	}
	err := l.part()
	if err == nil {
		_, err = l.node.Kernel.Ask(l.consumer.Conn, lane.AskFree, lane.Place(l.Number, 0))
	}
	atomic.StoreUint32(&l.at.Flags, 0)
	if l.is(&l.gone) {
		err = nil // nobody is left to ask
	} else if err != nil {
		_ = l.consumer.Conn.Reset() // in what order its bytes arrive nobody can say
	}
	return errors.Join(err, l.node.Barrier.Wait())
}

// part makes the consumer read from TCP again: what is on its way by the lane has arrived,
// and is read before anything that is written from here on.
func (l *Lane) part() error {
	c := l.consumer.Conn
	if err := c.Acquire(); err != nil {
		return err
	}
	err := (&gate{l}).Pause()
	if err == nil {
		c.Divert(nil)
		l.clear(lane.Answers | lane.Paused)
	}
	return errors.Join(err, c.Done(err))
}

// end gives back what the lane had. Err is why it did not live as it should.
func (l *Lane) end(err error) {
	l.sweep(nil, l.endWhy())
	l.node.Mu.Lock()
	ends, why := l.ends, l.why
	l.node.Mu.Unlock()
	for _, e := range ends {
		if e != nil {
			e.hangUp()
			<-e.done
		}
	}
	l.letGo()
	l.consumer.Position.Hush()
	if l.well = err == nil; !l.well {
		why = tally.Failed
		l.node.Stats.Failed.Add(1)
		l.node.Logger.Debug("no lane", "workload", l.Way.Key.Workload, "destination", l.Way.Key.Original, "error", err)
	}
	if l.joined {
		l.node.Tally.Closed(l.Number, why)
	}
	l.node.Mu.Lock()
	delete(l.Way.Lanes, l)
	l.drawn = l.Book.Memory.Undraw(l.Number)
	l.node.Ended(l)
	l.node.Mu.Unlock()
	close(l.done)
}

// endWhy is why what is left in flight at the end gets no answer.
func (l *Lane) endWhy() rpc.Why {
	if l.is(&l.gone) {
		return rpc.WhyDownstreamGone
	}
	return rpc.WhyUpstreamClosed
}

// Shut lets no more requests go to an endpoint, and closes the connection to it behind what
// is in flight. Node.Mu is held.
func (l *Lane) Shut(endpoint netip.AddrPort) {
	for _, e := range l.ends {
		if e != nil && e.address == endpoint {
			e.stop()
		}
	}
}

// GiveUp refuses what is in flight: the proxy ends.
func (l *Lane) GiveUp() { l.sweep(nil, rpc.WhyUpstreamClosed) }
