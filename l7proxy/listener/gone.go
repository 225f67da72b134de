package listener

// Remove stops accepting for a workload; its connections end by themselves. Ended is called
// after the last of them, unless the workload is put again before.
func (s *Set) Remove(uid string, ended func()) {
	s.mu.Lock()
	p := s.pods[uid]
	if p == nil {
		s.mu.Unlock()
		ended()
		return
	}
	closeAll(p.listeners)
	p.listeners, p.ended = nil, ended
	over := s.over(p)
	s.mu.Unlock()
	over()
}

// begin counts a connection of a pod.
func (s *Set) begin(p *pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.busy++
}

// end undoes begin.
func (s *Set) end(p *pod) {
	s.mu.Lock()
	p.busy--
	over := s.over(p)
	s.mu.Unlock()
	over()
}

// over returns what is to be done without the lock: to say that a pod that has gone has no
// connection any more. The caller locks.
func (s *Set) over(p *pod) func() {
	if p.ended == nil || p.busy > 0 {
		return func() {}
	}
	delete(s.pods, p.workload.Load().UID)
	over := p.ended
	p.ended = nil
	return over
}
