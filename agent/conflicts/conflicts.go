// Package conflicts keeps what package agent/datapath/conflict finds on the node: looked for
// at start and every so often, logged when it changes, and told to whoever asks. It does
// nothing about them.
package conflicts

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/datapath/conflict"
	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/internal/admin"
)

// Datapath tells which programs are the mesh's; package agent/lanes/loaded's does.
type Datapath interface {
	// Status has them.
	Status() (datapath.Status, error)
	// While it is locked none is attached of which Status does not tell.
	sync.Locker
}

// Watch looks again and again. Its methods may be called concurrently.
type Watch struct {
	node     conflict.Node
	datapath Datapath
	log      *slog.Logger

	mu    sync.Mutex
	found []host.Check // those that are not OK, in the order of conflict.Find
}

// New looks for the first time. The ids of the mesh's programs are asked of d each time.
func New(node conflict.Node, d Datapath, log *slog.Logger) *Watch {
	w := &Watch{node: node, datapath: d, log: log}
	w.look()
	return w
}

// Run looks every interval until ctx ends.
func (w *Watch) Run(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.look()
		}
	}
}

// look finds, says what is new and what is over, and keeps it.
func (w *Watch) look() {
	found, err := w.find()
	if err != nil {
		// Half of our programs would be taken for somebody else's.
		w.log.Warn("conflicts are not looked for", "error", err)
		return
	}
	w.mu.Lock()
	before := w.found
	w.found = found
	w.mu.Unlock()
	for _, c := range found {
		if !slices.Contains(before, c) {
			w.log.Warn("conflict on this node", "conflict", c.Name, "found", c.Detail, "fix", c.Fix)
		}
	}
	for _, c := range before {
		if !slices.ContainsFunc(found, func(now host.Check) bool { return now.Name == c.Name }) {
			w.log.Info("conflict is over", "conflict", c.Name)
		}
	}
}

// find returns what is not OK now.
func (w *Watch) find() ([]host.Check, error) {
	w.datapath.Lock()
	defer w.datapath.Unlock()
	status, err := w.datapath.Status()
	if err != nil {
		return nil, err
	}
	node := w.node
	node.Ours = nil
	for _, p := range status.Programs {
		node.Ours = append(node.Ours, p.ID)
	}
	var found []host.Check
	for _, c := range conflict.Find(node) {
		if !c.OK {
			found = append(found, c)
		}
	}
	return found, nil
}

// Found returns the conflicts there are, for people; empty when there are none.
func (w *Watch) Found() []admin.Conflict {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []admin.Conflict
	for _, c := range w.found {
		all = append(all, admin.Conflict{Name: c.Name, Detail: c.Detail, Fix: c.Fix})
	}
	return all
}
