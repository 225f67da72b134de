package roster

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/agent/pods/kube"
	"github.com/dubway/dubway/agent/pods/process"
)

// record is what is known of one pod.
type record struct {
	entry  kube.Entry
	listed bool // by the API server; else it is deleted there, or not told of yet
	born   time.Time
	marked bool      // neighbours were told that it speaks TLS
	left   time.Time // since when they are told otherwise, of one that is wanted no more

	sandbox *sandbox         // nil: the runtime has not told us of one
	found   *netns.Namespace // by its processes, nil if there is a sandbox, or none was found
	cgroup  string
	lack    error  // why there is no namespace
	kernel  string // the program that runs it on another kernel
	ran     bool   // processes have been seen
	runs    bool   // at the last look
	// down is when the runtime removed its sandbox, as time since boot: what was
	// started before is not looked at any more. 0: it did not.
	down time.Duration

	heard map[uint16]time.Time // ports, and when something listened there last
	hears int                  // how often that was asked
	next  time.Time            // when it is asked again

	pod *pods.Pod // as last published
}

// sandbox is a pod's network as the runtime told of it.
type sandbox struct {
	id        string
	netns     *netns.Namespace
	addresses []netip.Addr
}

// netns returns the pod's network namespace, nil if it is not known.
func (c *record) netns() *netns.Namespace {
	if c.sandbox != nil {
		return c.sandbox.netns
	}
	return c.found
}

// addresses are those that the runtime says, or the API server.
func (c *record) addresses() []netip.Addr {
	if c.sandbox != nil && len(c.sandbox.addresses) > 0 {
		return c.sandbox.addresses
	}
	return c.entry.Pod.Addresses
}

// learn takes over what the API server says.
func (r *Roster) learn(entries []kube.Entry, now time.Time) {
	for _, c := range r.records {
		c.listed = false
	}
	for i := range entries {
		e := &entries[i]
		c := r.records[e.Pod.UID]
		if !r.stays(e, c, now) {
			r.drop(e.Pod.UID)
			continue
		}
		if c == nil {
			c = &record{born: now}
			r.records[e.Pod.UID] = c
		}
		c.entry, c.listed, c.marked = *e, true, c.marked || e.Marked
	}
}

// stays tells whether a pod is in the roster, by what the API server says.
func (r *Roster) stays(e *kube.Entry, c *record, now time.Time) bool {
	switch {
	case e.Finished:
		return false
	case e.Wanted:
		if c != nil {
			c.left = time.Time{}
		}
		return true
	case e.Undecided:
		return c != nil
	case e.Marked: // neighbours encrypt to it: first they must hear that they should not
		return true
	case c == nil || !c.marked:
		return false
	case c.left.IsZero():
		c.left = now
	}
	return now.Sub(c.left) < r.opts.Settle
}

// drop forgets a pod.
func (r *Roster) drop(uid string) {
	c := r.records[uid]
	if c == nil {
		return
	}
	r.retire(c.netns())
	delete(r.records, uid)
}

func (r *Roster) retire(ns *netns.Namespace) {
	if ns != nil {
		r.retired = append(r.retired, ns)
	}
}

func (c *record) close() {
	if ns := c.netns(); ns != nil {
		_ = ns.Close()
	}
}

// incomplete tells whether something of a pod is still to be found, or a time runs out
// soon.
func (r *Roster) incomplete() bool {
	for _, c := range r.records {
		if !c.left.IsZero() || !c.listed || c.excluded() == "" && (c.netns() == nil || !c.runs || c.hears < len(early)) {
			return true
		}
	}
	return false
}

// look looks for pods on the node, if it is time or one is missing.
func (r *Roster) look(now time.Time) {
	if now.Sub(r.looked) < check && !slices.ContainsFunc(slices.Collect(maps.Values(r.records)), func(c *record) bool {
		return c.excluded() == "" && (c.netns() == nil || c.cgroup == "" || !c.runs || !c.listed)
	}) {
		return
	}
	r.looked = now
	view, err := r.finder.Look()
	if err != nil {
		r.opts.Log.Error("look for pods", "error", err)
		return
	}
	for uid, c := range r.records {
		if c.excluded() == "" || c.kernel != "" {
			r.place(c, view)
		}
		if !c.listed && !c.runs && (c.ran || now.Sub(c.born) > fresh) {
			r.drop(uid)
		}
	}
}

// place finds out where a pod is.
func (r *Roster) place(c *record, view *process.View) {
	p, err := view.Find(c.entry.HostUID)
	c.runs = len(p.PIDs) > 0
	c.ran = c.ran || c.runs
	c.cgroup, c.lack = p.Cgroup, err
	if err != nil {
		return
	}
	c.kernel = view.Foreign(p)
	if c.sandbox != nil || len(c.entry.Pod.Addresses) == 0 || c.runs && p.Started < c.down {
		return
	}
	ns, err := view.Netns(p, c.has)
	switch {
	case err != nil:
		c.lack = err
	case c.found != nil && c.found.ID() == ns.ID():
		_ = ns.Close()
	default:
		r.retire(c.found)
		c.found, c.down = ns, 0
		c.listens(nil)
	}
}

// has refuses a network namespace that is not the pod's own: a container may have made
// another one.
func (c *record) has(ns *netns.Namespace) error {
	all, err := ns.Addresses()
	if err != nil {
		return err
	}
	for _, a := range c.entry.Pod.Addresses {
		if slices.Contains(all, a) {
			return nil
		}
	}
	return errors.New("no process of it is in a network namespace that has the pod's address")
}

// excluded says why a pod cannot be captured.
func (c *record) excluded() string {
	if c.entry.Pod.Excluded == "" && c.kernel != "" {
		return "its containers run on another kernel: " + c.kernel
	}
	return c.entry.Pod.Excluded
}

// set is what the records come to.
func (r *Roster) set(now time.Time) pods.Set {
	var s pods.Set
	owner := r.owners()
	for _, uid := range slices.Sorted(maps.Keys(r.records)) {
		c := r.records[uid]
		if c.entry.Problem != "" {
			name := "pod " + c.entry.Pod.Namespace + "/" + c.entry.Pod.Name
			s.Problems = append(s.Problems, pods.Problem{Name: name, Err: errors.New(c.entry.Problem)})
		}
		pod := c.describe(now)
		if pod == nil || slices.ContainsFunc(pod.Addresses, func(a netip.Addr) bool { return owner[a] != nil && owner[a] != c }) {
			continue
		}
		if c.pod == nil || !reflect.DeepEqual(c.pod, pod) {
			c.pod = pod
		}
		s.Pods = append(s.Pods, c.pod)
	}
	return s
}

// owners are whose addresses are, where several have one: of those that the API server
// knows the one that runs, else the one that was made last.
func (r *Roster) owners() map[netip.Addr]*record {
	owner := make(map[netip.Addr]*record)
	rank := func(c *record) int {
		n := 0
		if c.listed {
			n += 2
		}
		if c.runs || c.sandbox != nil {
			n++
		}
		return n
	}
	for _, c := range r.records {
		if c.excluded() != "" || c.netns() == nil {
			continue
		}
		for _, a := range c.addresses() {
			o := owner[a]
			if o == nil || cmp.Or(cmp.Compare(rank(c), rank(o)), c.born.Compare(o.born)) > 0 {
				owner[a] = c
			}
		}
	}
	return owner
}

// describe returns the pod as it is published, nil for one of which there is nothing to
// say yet.
func (c *record) describe(now time.Time) *pods.Pod {
	pod := c.entry.Pod
	pod.Excluded, pod.Addresses, pod.Cgroup = c.excluded(), c.addresses(), c.cgroup
	ns := c.netns()
	switch {
	case pod.Excluded != "":
		return &pod
	case len(pod.Addresses) == 0:
		return nil
	case ns != nil:
		pod.Netns = ns.Path()
		pod.Ports = c.ports()
		return &pod
	case c.down == 0 && c.lack != nil && now.Sub(c.born) > overdue:
		pod.Missing = c.lack.Error()
		return &pod
	}
	return nil
}

// boot is the time since the machine was started, as processes' starts are told.
func boot() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
