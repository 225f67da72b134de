package cluster

import "net/netip"

// Drawn returns the endpoint at an address that was drawn for a request by who knows the odds. Nil:
// it is avoided, or is no more among whom Pick chooses for the choice.
func (s *Set) Drawn(addr netip.AddrPort, c Choice) *Endpoint {
	e := s.At(addr, c.Subset)
	if e != nil {
		return e
	}
	if st := s.state.Load(); st == nil || st.known[addr] == nil || st.known[addr].Avoided() {
		return nil
	}
	// In panic those are chosen too that are not fit.
	c.Exclude = func(a netip.AddrPort) bool { return a != addr }
	if e, err := s.Pick(c); err == nil && !e.Avoided() {
		return e
	}
	return nil
}
