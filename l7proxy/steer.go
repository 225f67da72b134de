package l7proxy

import (
	"context"
	"time"

	"github.com/dubway/dubway/internal/handoff/lack"
)

// askPublish wakes publishDestinations.
func (p *Proxy) askPublish() {
	select {
	case p.publish <- struct{}{}:
	default:
	}
}

// publishDestinations tells the agent what to steer, after each change of what workloads
// see and after each connect.
func (p *Proxy) publishDestinations(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.publish:
		}
		if !p.connected.Load() {
			continue
		}
		if p.afresh.Load() { // tables are those of one connection
			p.steering.Afresh()
			p.afresh.Store(false) // afterwards: lacks looks at both
		}
		generation := p.generation.Load()
		if err := p.steering.Tell(ctx, generation, p.sight.Views()); err != nil && ctx.Err() == nil {
			p.log.Error("destinations not published", "generation", generation, "error", err)
			time.AfterFunc(time.Second, p.askPublish)
		}
	}
}

// lacks says what a workload lacks until its calls go by what it sees: that has to be in
// force here, and in the kernel. What is in force by a table of the connection before is not
// counted: it is not told apart from that of an agent that is gone.
func (p *Proxy) lacks(uid string) lack.Lack {
	seen := p.sight.Now(uid)
	switch {
	case seen.Generation == 0 && p.control != nil && p.control.Away(uid):
		return lack.Plane
	case seen.Generation == 0:
		return lack.View
	case !p.connected.Load() || p.afresh.Load():
		return lack.Table
	}
	return p.steering.InForce(uid, seen)
}
