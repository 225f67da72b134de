package lanes

import (
	"os"
	"time"

	"github.com/dubway/dubway/internal/handoff"
)

// The memory stays away from a new proxy while another one has lanes in it: so often it is
// looked whether that has closed them, and so long it may take. A proxy closes its lanes
// within seconds, or the connections that they are of.
const (
	lookEvery = 100 * time.Millisecond
	leaseEnds = 30 * time.Second
)

// lease is which proxy has the memory, by its instance.
type lease struct {
	owner     uint64    // 0: none that is connected
	inherited bool      // lanes that are in use are those of a proxy that may live
	began     time.Time // since when
	waits     bool      // somebody is kept waiting
	refused   string    // why the owner cannot use it; "" if it can
}

// Proxy is one that is connected, as it says of itself.
type Proxy struct {
	Instance uint64
	Maps     uint64 // the memory that it has; 0: none
}

// Offer is what a proxy is to be told.
type Offer struct {
	Lanes   handoff.Lanes
	Files   []*os.File // borrowed; empty where Lanes has no Sizes
	Changed <-chan struct{}
}

// Offer returns what a proxy is to be told now, and gives it the memory if it may have it.
func (l *Lanes) Offer(p Proxy) Offer {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := Offer{Lanes: handoff.Lanes{Mode: l.verdict.mode, Why: l.verdict.why}, Changed: l.changed}
	if l.shared == nil {
		return o
	}
	if why := l.lets(p); why != "" {
		o.Lanes = handoff.Lanes{Mode: handoff.LaneOff, Why: why}
		return o
	}
	if l.lease.owner != p.Instance {
		l.lease = lease{owner: p.Instance}
	}
	o.Lanes.Maps, o.Lanes.Sizes, o.Files = l.shared.number, l.shared.sizes, l.shared.files
	return o
}

// lets says why a proxy does not get the memory yet; "" if it does. mu is held.
func (l *Lanes) lets(p Proxy) string {
	e := &l.lease
	switch {
	case e.owner == p.Instance || p.Maps == l.shared.number:
	case e.owner != 0:
		return "the proxy that this one replaces has lanes still"
	case e.inherited && time.Since(e.began) < leaseEnds && l.shared.inUse() > 0:
		if !e.waits {
			e.waits = true
			l.kick()
		}
		return "a proxy that ends has lanes still"
	}
	return ""
}

// patience returns when it is to be looked again for whom is kept waiting; never, if that is
// nobody.
func (l *Lanes) patience() <-chan time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &l.lease
	if e.waits = e.waits && e.inherited && time.Since(e.began) < leaseEnds+lookEvery; !e.waits {
		return nil
	}
	return time.After(lookEvery)
}

// Refused says why the proxy cannot use the memory.
func (l *Lanes) Refused(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lease.refused = text
}

// Gone says that a proxy's connection ended. One that lives closes its lanes itself: what it
// gave to be kept is let go of. Of one that is dead they are the next one's.
func (l *Lanes) Gone(p Proxy, lives bool) {
	l.Kept.Leave(p.Instance, lives)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease.owner != p.Instance {
		return
	}
	l.lease = lease{inherited: lives, began: time.Now()}
	l.signal()
	l.kick()
}
