package downstream

import "time"

// expire ends a connection that has been silent for as long as its listener allows. One
// that has not said what it is yet is ended too; a relay has a clock of its own.
func (s *Session) expire() {
	limit := s.plans.Idle()
	if limit == 0 || time.Duration(s.silent)*Period < limit {
		return
	}
	s.mode.Lock()
	defer s.mode.Unlock()
	if !s.relayed && (s.serving.Load() || !s.in.Inbound) {
		s.expired.Store(true)
		s.in.Conn.Interrupt()
	}
}
