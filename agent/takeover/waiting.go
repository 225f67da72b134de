package takeover

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/agent/server"
	"github.com/dubway/dubway/agent/table"
)

// Waiting is what an agent that is not the active one tells its proxy: the pods that the
// active one has enrolled, as far as the agent knows them itself. It puts nothing in
// force, but notes what the proxy would. Its methods may be called concurrently.
type Waiting struct {
	heir *Heir // nil: nobody is enrolled
	feed *pods.Feed

	mu      sync.Mutex
	roster  map[string]*entry // by UID
	missing string            // what is not known yet; "" for nothing
	changed chan struct{}     // closed at the next change of roster
	named   map[uint32][]string
	rest    bool // table 0 came: after all others
	all     bool // it is the configuration of all that are not named
}

// entry is a pod with what it was made of.
type entry struct {
	pod      *pods.Pod
	given    *Inheritance
	workload *enroll.Workload
}

var (
	_ server.Roster = (*Waiting)(nil)
	_ server.Ledger = (*Waiting)(nil)
)

// NewWaiting makes the Waiting of an Heir; of nil, that of nobody.
func NewWaiting(heir *Heir, feed *pods.Feed) *Waiting {
	return &Waiting{
		heir: heir, feed: feed, roster: make(map[string]*entry), changed: make(chan struct{}),
		missing: "its pods are not known yet", named: make(map[uint32][]string),
	}
}

// Follow keeps the roster up to date until ctx ends.
func (w *Waiting) Follow(ctx context.Context) {
	if w.heir == nil {
		return
	}
	for {
		given, told, left := w.heir.Pods()
		set, known := w.feed.Last()
		w.join(given, told, set)
		select {
		case <-ctx.Done():
			return
		case <-left:
		case <-known:
		}
	}
}

// join makes the roster of what the active agent gave and of what is known here.
func (w *Waiting) join(given map[string]*Inheritance, told bool, set *pods.Set) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case set == nil:
		w.missing = "its pods are not known yet"
		return
	case !told:
		w.missing = "the active agent has not told of all pods yet"
		return
	}
	w.missing = ""
	next := make(map[string]*entry, len(given))
	for _, pod := range set.Pods {
		g := given[pod.UID]
		if g == nil {
			continue
		}
		if old := w.roster[pod.UID]; old != nil && old.pod == pod && old.given == g {
			next[pod.UID] = old
			continue
		}
		next[pod.UID] = &entry{pod: pod, given: g, workload: g.workload(pod)}
	}
	w.roster = next
	close(w.changed)
	w.changed = make(chan struct{})
}

// workload is the pod as its proxy is told of it. It has no network namespace: nobody
// dials for it yet.
func (i *Inheritance) workload(pod *pods.Pod) *enroll.Workload {
	w := &enroll.Workload{Pod: pod, Cookie: i.Cookie}
	for at, l := range i.Listeners {
		w.Listeners = append(w.Listeners, enroll.Listener{Listener: l, Socket: i.Sockets[at]})
	}
	return w
}

// Workloads is part of server.Roster.
func (w *Waiting) Workloads() ([]*enroll.Workload, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]*enroll.Workload, 0, len(w.roster))
	for _, e := range w.roster {
		all = append(all, e.workload)
	}
	return all, w.changed
}

// Runs tells whether a pod of the roster runs as a service account.
func (w *Waiting) Runs(namespace, account string) bool {
	all, _ := w.Workloads()
	return slices.ContainsFunc(all, func(w *enroll.Workload) bool {
		return account != "" && w.Pod.Namespace == namespace && w.Pod.ServiceAccount == account
	})
}

// Adopt is part of server.Roster. The active agent has what a proxy could give back.
func (w *Waiting) Adopt(held map[string][]*netns.Socket) {
	for _, sockets := range held {
		closeAll(sockets)
	}
}

// Begin is part of server.Ledger.
func (w *Waiting) Begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.named)
	w.rest, w.all = false, false
}

// Put is part of server.Ledger. The proxy publishes all of it again in the agent's turn.
func (w *Waiting) Put(g *table.Generation) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g.Number == 0 {
		w.rest, w.all = true, table.Own(0, len(g.Destinations))
	} else {
		w.named[g.Number] = g.Workloads
	}
	return nil
}

// Lacks says what is missing until the turn can be taken: every pod that has destinations
// by the active agent's proxy needs some by ours too, or its connects would go past the
// mesh for a while, or for ever where our proxy finds no configuration. "" for nothing.
func (w *Waiting) Lacks() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.missing != "":
		return w.missing
	case !w.rest:
		return "the proxy has no configuration yet"
	}
	named := make(map[string]bool)
	for _, uids := range w.named {
		for _, uid := range uids {
			named[uid] = true
		}
	}
	for uid, e := range w.roster {
		if e.given.Steered && !named[uid] && !w.all {
			return fmt.Sprintf("the proxy has no configuration yet for %s, which the active agent's has", uid)
		}
	}
	return ""
}
