package xds

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/destinations"
	"github.com/dubway/dubway/l7proxy/snapshot/table"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/shelf"
)

// claim is what no two listeners may have: an address that consumers dial, or a port of a
// provider.
type claim struct {
	dialled destinations.Destination
	who     provider
}

// provider is a port of whoever an inbound listener is for.
type provider struct {
	workload string
	address  netip.Addr
	port     uint16
}

func providerOf(in *snapshot.Inbound) provider { return provider{in.Workload, in.Address, in.Port} }

func (w provider) String() string {
	who, port := w.workload, fmt.Sprintf("port %d", w.port)
	if who == "" {
		who = w.address.String()
	}
	if w.port == 0 {
		port = "every other port"
	}
	return who + " " + port
}

// String is what the claim is to, for a rejection.
func (c claim) String() string {
	if c.who != (provider{}) {
		return c.who.String()
	}
	return fmt.Sprintf("%s port %d", c.dialled.Prefix, c.dialled.Port)
}

// claims lists what a listener asks for; nil, and what is no listener, asks for nothing.
func claims(e *shelf.Entry) iter.Seq[claim] {
	return func(yield func(claim) bool) {
		if e == nil {
			return
		}
		for _, l := range e.Listeners {
			if !yield(claim{dialled: destinations.Destination{Prefix: l.Prefix, Port: l.Port}}) {
				return
			}
		}
		for _, in := range e.Inbounds {
			if !yield(claim{who: providerOf(in)}) {
				return
			}
		}
	}
}

// contest settles which of some listeners get what they ask for. Whoever has something
// keeps it, unless it asks for something else now and gets it: two may change places. Whom
// the rest leaves nothing stays what it was.
type contest struct {
	held *table.Editor[claim, string] // the names of the listeners that have them
	bids map[string]*bid              // by the listener's name
}

// bid is what a listener asks for in place of what it has.
type bid struct {
	old, now *shelf.Entry  // old is nil if it has nothing
	version  string        // of now
	lost     problems.List // why it does not get it
}

func (c *contest) release(e *shelf.Entry) {
	for one := range claims(e) {
		if who, _ := c.held.Get(one); who == e.Name {
			c.held.Delete(one)
		}
	}
}

func (c *contest) grant(e *shelf.Entry) {
	for one := range claims(e) {
		c.held.Set(one, e.Name)
	}
}

// inTheWay says who has what e asks for.
func (c *contest) inTheWay(e *shelf.Entry) (p problems.List) {
	for one := range claims(e) {
		if who, ok := c.held.Get(one); ok && who != e.Name {
			p.Addf("address", "%s is already listener %s's", one, who)
			return p
		}
	}
	return nil
}

// settle decides about each bid.
func (c *contest) settle() {
	order := slices.SortedFunc(maps.Keys(c.bids), func(a, b string) int {
		if x, y := c.bids[a].old == nil, c.bids[b].old == nil; x != y { // who has something goes first
			if x {
				return 1
			}
			return -1
		}
		return strings.Compare(a, b)
	})
	for whole := false; !whole; {
		whole = c.round(order)
	}
	for again := true; again; { // a loser may have been in the way of another one
		again = false
		for _, name := range order {
			b := c.bids[name]
			if b.lost == nil {
				continue
			}
			c.release(b.old)
			if b.lost = c.inTheWay(b.now); b.lost == nil {
				c.grant(b.now)
				again = true
			} else {
				c.grant(b.old)
			}
		}
	}
}

// round tries all bids that have not been lost, as if none of them had anything; false if
// one is lost now that must have back what it had.
func (c *contest) round(order []string) bool {
	for _, b := range c.bids {
		c.release(b.old)
		c.release(b.now)
	}
	for _, b := range c.bids {
		if b.lost != nil {
			c.grant(b.old)
		}
	}
	whole := true
	for _, name := range order {
		b := c.bids[name]
		if b.lost != nil {
			continue
		}
		if b.lost = c.inTheWay(b.now); b.lost == nil {
			c.grant(b.now)
		} else if b.old != nil {
			whole = false
		}
	}
	return whole
}
