package downstream

import "github.com/dubway/dubway/l7proxy/lane"

// Adopt is Serve of a connection that a proxy before this one served, and that has a lane.
// What that one had read of it and not answered is answered by nobody; what waits in the
// connection is served here.
func Adopt(env *Env, in *Accepted, left *lane.Left, started func(Live)) {
	s := newSession(env, in)
	s.again.Lock()
	s.ride.Adopt(left, &s.plans)
	s.plans.Forget() // requests say more than the names by which the lane was taken
	s.again.Unlock()
	started(s)
	bound := s.bind()
	defer func() { s.unbind(bound) }()
	if s.ride.Catch() != nil {
		_ = in.Conn.Reset() // serve ends at once
	}
	s.serve()
}
