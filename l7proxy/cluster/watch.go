package cluster

import (
	"net/netip"
	"reflect"

	"github.com/dubway/dubway/l7proxy/cluster/checkup"
	"github.com/dubway/dubway/l7proxy/cluster/outlier"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// watch starts, changes or ends the judging and the checking of a set's endpoints; nil
// ends both. The caller locks.
func (m *Manager) watch(set *Set, c *snapshot.Cluster) {
	if m.closed || c == nil || c.Dials() {
		c = &snapshot.Cluster{}
	}
	m.judge(set, c.Outlier)
	m.check(set, c.Check)
}

func (m *Manager) judge(set *Set, c *snapshot.Outlier) {
	switch {
	case c == nil && set.detector != nil:
		set.detector.Close()
		set.detector = nil
	case c != nil && set.detector != nil:
		set.detector.Configure(c)
	case c != nil:
		set.detector = outlier.New(c, &m.outliers, func() { m.touch(set) })
	}
}

// check begins anew if the check is another one: it may ask for something else. Until
// its answers come all endpoints are in.
func (m *Manager) check(set *Set, c *snapshot.Check) {
	if set.checker != nil && c != nil && reflect.DeepEqual(set.checker.Config(), c) {
		return
	}
	if set.checker != nil {
		set.checker.Close()
		set.checker = nil
	}
	if c != nil && m.prober != nil {
		set.checker = checkup.New(&checkup.Params{
			Check: c, Prober: m.prober, Stats: &m.checks,
			Changed: func() { m.touch(set) }, Passed: set.passed,
		})
	}
}

// passed ends the ejection of an endpoint that passed its check.
func (s *Set) passed(addr netip.AddrPort) {
	if st := s.state.Load(); st != nil && st.known[addr] != nil && st.known[addr].monitor != nil {
		st.known[addr].monitor.Checked()
	}
}

// watched returns the endpoint at an address as a set knows it, or a new one: it is
// another when what is known of it, or who watches it, is. The caller locks.
func (s *Set) watched(e *Endpoint, addr netip.AddrPort, info *snapshot.Endpoint) *Endpoint {
	next := Endpoint{Address: addr, Info: info}
	if s.detector != nil {
		next.monitor = s.detector.Monitor(addr)
	}
	if s.checker != nil {
		next.check = s.checker.Subject(addr)
	}
	if e == nil {
		next.health = &health{}
		return &next
	}
	if next.health = e.health; *e == next {
		return e
	}
	return &next
}

// forget ends the watching of addresses that are not known any more. The caller locks.
func (s *Set) forget() {
	known := func(addr netip.AddrPort) bool { return s.known[addr] != nil }
	if s.detector != nil {
		s.detector.Keep(known)
	}
	if s.checker != nil {
		s.checker.Keep(known)
	}
}
