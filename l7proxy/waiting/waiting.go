// Package waiting is the requests for which a connection is being made. It makes none
// and knows no protocol.
package waiting

import (
	"bytes"
	"time"

	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// most bounds the bytes that wait for one connection. Beyond it the consumer's
// connection waits, and so reads less.
const most = 1 << 20

// Request is one that waits. Its frame is a copy.
type Request struct {
	exchange.Request

	Owner exchange.Consumer
}

// End takes the request out of what is in flight at its endpoint.
func (r *Request) End() {
	if r.Begun {
		r.Edge.Endpoint.End(rpc.OutcomeNone)
		r.Begun = false
	}
}

// Refuse ends a request that was not sent.
func (r *Request) Refuse(why rpc.Why) {
	r.End()
	r.Token.End()
	r.Owner.Refuse(r.Refusal(false, why))
}

// timed tells whether the request has an end of its own.
func (r *Request) timed() bool { return !r.Until.IsZero() }

// Line is what waits for one connection, in its order. Its zero value is empty; the
// caller locks.
type Line struct {
	list  []Request
	bytes int
}

// Full tells whether no more is to be kept.
func (l *Line) Full() bool { return l.bytes > most }

// Keep copies requests, and returns how many of them have an end of their own. They are
// in flight at their endpoints from now on.
func (l *Line) Keep(owner exchange.Consumer, requests []exchange.Request) (timed int) {
	for _, r := range requests {
		r.Frame = bytes.Clone(r.Frame)
		l.bytes += len(r.Frame)
		if r.Begun = !r.OneWay; r.Begun {
			r.Edge.Endpoint.Begin()
		}
		w := Request{Request: r, Owner: owner}
		if w.timed() {
			timed++
		}
		l.list = append(l.list, w)
	}
	return timed
}

// Take empties the line, and returns how many of its requests have an end of their own.
func (l *Line) Take() (list []Request, timed int) {
	list, l.list, l.bytes = l.list, nil, 0
	for i := range list {
		if list[i].timed() {
			timed++
		}
	}
	return list, timed
}

// Late takes out what has waited too long.
func (l *Line) Late(now time.Time) []Request {
	var late []Request
	kept := l.list[:0]
	for _, r := range l.list {
		if !r.timed() || r.Until.After(now) {
			kept = append(kept, r)
			continue
		}
		l.bytes -= len(r.Frame)
		late = append(late, r)
	}
	clear(l.list[len(kept):])
	l.list = kept
	return late
}
