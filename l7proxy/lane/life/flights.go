package life

import (
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/herald"
	"github.com/dubway/dubway/l7proxy/lane/learned"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// flying tells whether anything is in flight, at an end or, for nil, at any.
func (l *Lane) flying(e *end) bool {
	found := false
	l.Book.Memory.InFlight(l.Number, func(_ uint64, f lane.Flight) bool {
		found = e == nil || f.End == uint32(e.number)
		return !found
	})
	return found
}

// land takes a request of an end out of flight, to be answered: it is pending at the
// consumer's from here on. False: there is none.
func (l *Lane) land(id uint64, end uint32) (f exchange.Flight, ok bool) {
	got, n := l.taken(id, end)
	if n == nil {
		return f, false
	}
	if n.Verdict.Access != nil {
		n.Verdict.Access.CountMany(1) // the proxy has not seen it as it came
	}
	l.consumer.Host.Asked()
	age := time.Duration(l.node.Kernel.Now() - got.Start)
	return exchange.Flight{
		Owner: l.consumer.Host, Edge: &n.Edge(got.End).Edge, ID: id, Start: time.Now().Add(-age),
		Bytes: int(got.Bytes), Serialization: n.Serialization,
	}, true
}

// taken takes a request out of flight, with its name and what it counted by: the place of a name
// that was removed is another's as soon as nothing is in flight by it. Nil: it is not in flight,
// or the programs and we do not agree whose it is, and there is nobody to blame.
func (l *Lane) taken(id uint64, end uint32) (lane.Flight, *learned.Name) {
	l.node.Mu.Lock()
	defer l.node.Mu.Unlock()
	got, ok := l.Book.Memory.TakeFrom(l.Number, id, end)
	if !ok {
		return got, nil
	}
	n := l.Book.Name(got.Route)
	if n == nil || n.Edge(got.End) == nil {
		return got, nil
	}
	n.Left(l.Book.Memory.Active, got.End)
	return got, n
}

// sweep ends what is in flight without an answer: at an end, or everywhere for nil.
func (l *Lane) sweep(e *end, why rpc.Why) {
	loss := herald.Loss{Excused: e == nil || why == rpc.WhyDownstreamGone || e.lane.is(&e.excused)}
	l.each(func(_ uint64, f lane.Flight) bool {
		return e == nil || f.End == uint32(e.number)
	}, func(f *exchange.Flight) {
		f.Edge.Endpoint.Begin()
		loss.End(f.Edge.Endpoint)
		l.decline(f, why)
	})
}

// expire refuses what has taken longer than its name allows.
func (l *Lane) expire() {
	now := l.node.Kernel.Now()
	l.node.Mu.Lock()
	limits := l.Book.Limits()
	l.node.Mu.Unlock()
	l.each(func(_ uint64, f lane.Flight) bool {
		limit := limits[f.Route]
		return limit > 0 && now > f.Start && now-f.Start >= limit
	}, func(f *exchange.Flight) {
		f.Edge.Endpoint.Begin()
		f.Edge.Endpoint.End(rpc.OutcomeTimeout)
		l.decline(f, rpc.WhyTimeout)
	})
	l.node.Mu.Lock()
	l.expires = false
	l.node.Mu.Unlock()
}

// each takes those in flight for which mine is true, and calls f with each of them.
func (l *Lane) each(mine func(uint64, lane.Flight) bool, f func(*exchange.Flight)) {
	l.Book.Memory.InFlight(l.Number, func(id uint64, got lane.Flight) bool {
		if !mine(id, got) {
			return true
		}
		if flight, ok := l.land(id, got.End); ok { // else it was answered just now
			f(&flight)
		}
		return true
	})
}

// decline answers a request in its provider's stead.
func (l *Lane) decline(f *exchange.Flight, why rpc.Why) {
	r := f.Refusal(true, why)
	r.Downstream = l.consumer.Source.Remote
	l.consumer.Host.Refuse(r)
}
