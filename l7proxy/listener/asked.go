package listener

import (
	"time"

	"github.com/dubway/dubway/internal/handoff/lack"
	"github.com/dubway/dubway/l7proxy/sock"
)

// answer tells who connected to an address that nobody has that the way here works, and
// what is still missing behind it: the agent, before it reports a pod as enrolled. It is no
// secret and takes nothing of the
// workload's quota, since a pod that is over it, or a proxy whose memory is tight, is no
// pod whose way is broken. A line fits into the empty buffer of a new connection.
func (s *Set) answer(c *sock.Conn, uid string) {
	s.stats.Asked.Add(1)
	_ = c.TCP().SetWriteDeadline(time.Now().Add(time.Second))
	missing := lack.None
	if s.opts.Lacks != nil {
		missing = s.opts.Lacks(uid)
	}
	_, _ = c.TCP().Write(missing.Answer(uid))
	_ = c.Close()
}
