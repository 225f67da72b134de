package roster

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/pods/kube"
)

// Sandbox is a pod's network that the container runtime tells of.
type Sandbox struct {
	ID        string           // the runtime's
	Netns     *netns.Namespace // the Roster's from then on
	Addresses []netip.Addr
}

// Add takes a pod's sandbox over, and returns when a set with it is in force, for whatever
// became of it there. The pod need not be in what the API server told of yet. One that is
// not wanted is not kept.
func (r *Roster) Add(ctx context.Context, e *kube.Entry, s Sandbox) error {
	refuse := func() { _ = s.Netns.Close() }
	return r.ask(ctx, func(now time.Time) {
		c := r.records[e.Pod.UID]
		if c == nil && (!e.Wanted || e.Finished) {
			refuse()
			return
		}
		if c == nil {
			c = &record{entry: *e}
			r.records[e.Pod.UID] = c
		}
		r.retire(c.netns())
		c.found, c.born, c.down, c.ran = nil, now, 0, false
		c.sandbox = &sandbox{id: s.ID, netns: s.Netns, addresses: reachable(s.Addresses)}
		c.listens(nil)
	}, refuse)
}

// reachable leaves out what no peer can reach.
func reachable(all []netip.Addr) (list []netip.Addr) {
	for _, a := range all {
		if a = a.Unmap().WithZone(""); a.IsGlobalUnicast() && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// Remove forgets a sandbox, and returns when a set without it is in force. Of one that is
// not known (an earlier agent was told of it) the pod's processes tell.
func (r *Roster) Remove(ctx context.Context, id string) error {
	return r.ask(ctx, func(time.Time) {
		r.looked = time.Time{}
		for uid, c := range r.records {
			if c.sandbox != nil && c.sandbox.id == id {
				r.away(uid, c)
			}
		}
	}, nothing)
}

// Keep forgets all sandboxes but those of a list.
func (r *Roster) Keep(ctx context.Context, ids []string) error {
	return r.ask(ctx, func(time.Time) {
		for uid, c := range r.records {
			if c.sandbox != nil && !slices.Contains(ids, c.sandbox.id) {
				r.away(uid, c)
			}
		}
	}, nothing)
}

// away takes the sandbox of a pod away. The pod comes back with another one.
func (r *Roster) away(uid string, c *record) {
	r.retire(c.sandbox.netns)
	c.sandbox, c.down, c.runs = nil, boot(), false
	if !c.listed {
		delete(r.records, uid)
	}
}

// Holds tells whether a sandbox is a pod's, and whose.
func (r *Roster) Holds(ctx context.Context, id string) (uid string, err error) {
	found := make(chan string, 1) // has room
	err = r.ask(ctx, func(time.Time) {
		for one, c := range r.records {
			if c.sandbox != nil && c.sandbox.id == id {
				found <- one
				return
			}
		}
		found <- ""
	}, nothing)
	if err != nil {
		return "", err
	}
	return <-found, nil
}

func nothing() {}
