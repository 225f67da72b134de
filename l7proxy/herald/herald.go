// Package herald tells those whom it concerns how the connections to one endpoint
// fare: the load balancers that choose it, and the consumers that dialled it. It
// makes no connection and chooses none.
package herald

import (
	"sync"

	"github.com/dubway/dubway/l7proxy/rpc"
)

// Endpoint is an endpoint as a load balancer keeps it. Its methods must not wait.
type Endpoint interface {
	Begin() // a request is in flight
	// End tells of a request of Begin what it says of the endpoint.
	End(o rpc.Outcome)
	Failed() // no connection could be made
	Connected()
	// Draining says that the provider is about to stop: it answers what it has
	// and what still comes, but others should get new requests. It may be said
	// more than once.
	Draining()
}

// Bound is a consumer connection whose application dialled this very endpoint.
type Bound interface {
	// Dead is called, once or more, when the endpoint cannot be connected to.
	Dead()
}

// Herald tells. Its zero value knows nobody. Safe for concurrent use.
type Herald struct {
	mu        sync.Mutex
	endpoints map[Endpoint]int // how often each watches
	bound     map[Bound]bool
}

// Watch adds an endpoint that wants to know, until Unwatch.
func (h *Herald) Watch(e Endpoint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.endpoints == nil {
		h.endpoints = make(map[Endpoint]int)
	}
	h.endpoints[e]++
}

// Unwatch undoes one Watch.
func (h *Herald) Unwatch(e Endpoint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.endpoints[e] > 1 {
		h.endpoints[e]--
	} else {
		delete(h.endpoints, e)
	}
}

// Bind adds a consumer that dialled the endpoint, until Unbind.
func (h *Herald) Bind(b Bound) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bound == nil {
		h.bound = make(map[Bound]bool)
	}
	h.bound[b] = true
}

// Unbind undoes Bind.
func (h *Herald) Unbind(b Bound) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.bound, b)
}

// Wanted tells whether anybody but one, which may be nil, dialled the endpoint.
func (h *Herald) Wanted(but any) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.bound)
	if b, ok := but.(Bound); ok && h.bound[b] {
		n--
	}
	return n > 0
}

// Dialled tells how a connect ended. That the consumer has no certificate says nothing of
// the endpoint, which others share.
func (h *Herald) Dialled(err error) {
	if rpc.WhyOf(err) == rpc.WhyNoIdentity {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for e := range h.endpoints {
		if err != nil {
			e.Failed()
		} else {
			e.Connected()
		}
	}
	if err != nil {
		h.dead()
	}
}

// Draining tells that the provider is about to stop.
func (h *Herald) Draining() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for e := range h.endpoints {
		e.Draining()
	}
}

// Dead tells who dialled the endpoint that it is of no use.
func (h *Herald) Dead() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dead()
}

// dead is Dead under the lock: a consumer may take its time.
func (h *Herald) dead() {
	for b := range h.bound {
		go b.Dead()
	}
}

// Loss ends the requests that were pending on a connection which has ended. One end
// of a shared connection is one failure of the endpoint, however many requests it
// took with it: or the first would be held against it as a row of failures.
type Loss struct {
	// Excused says that the provider announced the end, or had no part in it.
	Excused bool

	told map[Endpoint]bool
}

// End ends one request.
func (l *Loss) End(e Endpoint) {
	if l.Excused || l.told[e] {
		e.End(rpc.OutcomeNone)
		return
	}
	if l.told == nil {
		l.told = make(map[Endpoint]bool)
	}
	l.told[e] = true
	e.End(rpc.OutcomeReset)
}
