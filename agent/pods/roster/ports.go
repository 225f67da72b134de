package roster

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Containers need not declare where they listen, and policies hold for their ports all
// the same. So what listens in a pod is asked of the kernel: soon after its network is
// there, then with each look. A port that nothing listens on any more stays for a while:
// a container that is restarted does not open a gap.
const (
	remember = 10 * time.Minute
	maxPorts = 256 // of a pod, beside the declared ones
)

// early is when a new pod is asked, after the time before.
var early = []time.Duration{time.Second, time.Second, 2 * time.Second, 4 * time.Second}

// meshPorts are the mesh's own listeners in each pod.
var meshPorts = []uint16{15001, 15006}

// hear asks the kernel where pods listen, those whose time it is.
func (r *Roster) hear(now time.Time) {
	for uid, c := range r.records {
		ns := c.netns()
		if ns == nil || c.excluded() != "" || now.Before(c.next) {
			continue
		}
		all, err := ns.Listening()
		if err != nil {
			r.opts.Log.Warn("ask where a pod listens", "uid", uid, "error", err)
		}
		c.note(all, now)
		pause := check
		if c.hears < len(early) {
			pause = early[c.hears]
		}
		c.hears++
		c.next = now.Add(pause)
	}
}

// listens forgets what was heard: the pod's network is another one.
func (c *record) listens(heard map[uint16]time.Time) {
	c.heard, c.hears, c.next = heard, 0, time.Time{}
}

// note keeps in mind which ports peers can reach.
func (c *record) note(all []netip.AddrPort, now time.Time) {
	if c.heard == nil {
		c.heard = make(map[uint16]time.Time)
	}
	for _, at := range all {
		_, known := c.heard[at.Port()]
		reachable := at.Addr().IsUnspecified() || slices.Contains(c.addresses(), at.Addr())
		if reachable && !slices.Contains(meshPorts, at.Port()) && (known || len(c.heard) < maxPorts) {
			c.heard[at.Port()] = now
		}
	}
	maps.DeleteFunc(c.heard, func(_ uint16, last time.Time) bool { return now.Sub(last) > remember })
}

// ports are the declared ports and those that were heard of.
func (c *record) ports() []uint16 {
	list := slices.Clone(c.entry.Pod.Ports)
	for port := range c.heard {
		list = append(list, port)
	}
	slices.Sort(list)
	return slices.Compact(list)
}
