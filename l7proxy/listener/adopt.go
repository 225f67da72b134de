package listener

import (
	"errors"

	"github.com/dubway/dubway/l7proxy/downstream"
)

// Errors of Adopt.
var (
	errNoPod = errors.New("adopt connection: its pod is not enrolled")
	errLimit = errors.New("adopt connection: its pod has as many as it may have")
)

// Adopt goes on with a connection that a proxy before this one accepted from a workload: its
// Conn, Original, Remote and Left are set. On an error the connection stays the caller's.
func (s *Set) Adopt(uid string, in *downstream.Accepted) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pods[uid]
	switch {
	case p == nil || p.ended != nil || s.shut:
		return errNoPod
	case !p.quota.Connect():
		return errLimit
	}
	in.Workload, in.Quota = p.workload.Load(), p.quota
	in.Conn.Limit(in.Quota)
	p.busy++
	s.serving.Go(func() { s.served(p, in) })
	return nil
}
