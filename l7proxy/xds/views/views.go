// Package views asks a control plane for what each pod of the node sees of the mesh, as
// the pod's own sidecar would: once for all pods that see the same. Package ads asks and
// listens; here is for whom, and who gets the answer.
package views

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds"
	"github.com/dubway/dubway/l7proxy/xds/ads"
	"github.com/dubway/dubway/l7proxy/xds/kept"
)

const (
	// perSecond is how many streams are begun: istiod takes 25 a second on two
	// processors, from all nodes together.
	perSecond = 10
	// burst is how many are begun at once.
	burst = 5
	// linger is how long a view without pods is followed: a pod that is replaced by
	// another of its kind finds it.
	linger = time.Minute
	// sweepAfter is how long after the start the files of views that nobody has go.
	sweepAfter = 10 * time.Minute
	// together is how long a snapshot waits for those of other views: what the control
	// plane pushes is for all of them.
	together = 5 * time.Millisecond
)

// Options say whom to ask, and what all pods have in common.
type Options struct {
	Server   string // HOST:PORT
	Cluster  string // CLUSTER_ID; only needed in a mesh of several clusters
	Domain   string // of the cluster: cluster.local
	Aeraki   string // HOST:PORT of Aeraki's server; "" if it is not known
	Locality string // region/zone/subzone of the node, or its first parts
	Dir      string // of the files that views are kept in
	Logger   *slog.Logger
	// Way, if not nil, says before each stream how to reach it for one of a view's pods.
	Way func(w *Workload) (ads.Way, error)
}

// Set has the views of the node's pods. Its methods are safe for concurrent use.
type Set struct {
	opts   Options
	shared xds.Library // what the views have in common
	pace   *rate.Limiter
	turns  *ads.Turns
	keeper *kept.Keeper
	freed  released
	change func()
	news   chan struct{} // one is as good as many

	mu    sync.Mutex
	ctx   context.Context //nolint:containedctx // Run's: views begin and end while it runs
	byKey map[string]*view
	byUID map[string]*view
	left  map[string]*view // by UID: what a pod still sees, since its new view was told nothing yet
	ended Totals           // of views that are no more
	runs  sync.WaitGroup
}

// view is one view, and the pods that have it.
type view struct {
	*ads.Source

	key     string
	pods    map[string]*Workload // by UID
	posing  string               // the UID of the one that it is asked for
	stop    context.CancelFunc   // nil: it does not run yet
	done    chan struct{}        // it runs no more
	expires *time.Timer          // nil: it has pods
}

// New returns a Set without views. It asks for nothing before Run.
func New(opts Options) (*Set, error) {
	if err := ads.CheckServer(opts.Server); err != nil {
		return nil, err
	}
	return &Set{
		opts: opts, pace: rate.NewLimiter(perSecond, burst), turns: ads.NewTurns(), keeper: kept.In(opts.Dir),
		change: func() {}, news: make(chan struct{}, 1),
		byKey: make(map[string]*view), byUID: make(map[string]*view), left: make(map[string]*view),
	}, nil
}

// OnChange sets the function that is called, one call at a time, when what a workload sees
// has changed. Set it before Put.
func (s *Set) OnChange(f func()) { s.change = f }

// Put says that a pod is on the node, or that it has changed. What was kept of its view
// holds at once.
func (s *Set) Put(w *Workload) error {
	if !w.Address.IsValid() {
		return fmt.Errorf("workload %s has no address: the control plane cannot be asked for what it sees", w.UID)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key(w)
	if old := s.byUID[w.UID]; old != nil && old.key != k {
		s.leave(old, w.UID)
		s.left[w.UID] = old
	}
	v := s.byKey[k]
	if v == nil {
		var err error
		if v, err = s.make(k, w); err != nil {
			return err
		}
	}
	v.pods[w.UID], s.byUID[w.UID] = w, v
	if v.expires != nil {
		v.expires.Stop()
		v.expires = nil
	}
	s.pose(v)
	return nil
}

// Remove says that a pod has gone.
func (s *Set) Remove(uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.left, uid)
	if v := s.byUID[uid]; v != nil {
		s.leave(v, uid)
		s.tell()
	}
}

// make begins a view with what was kept of it.
func (s *Set) make(k string, first *Workload) (*view, error) {
	o := ads.Options{
		Server: s.opts.Server, Node: s.node(first), Owner: k, Library: &s.shared,
		Pace: s.pace.Wait, Turns: s.turns, Aeraki: s.opts.Aeraki, Keeper: s.keeper, Received: s.freed.received,
		Path: filepath.Join(s.opts.Dir, file(k)), Logger: s.opts.Logger.With("view", k),
	}
	if s.opts.Way != nil {
		o.Way = func() (ads.Way, error) { return s.opts.Way(first) } // they all run as one account
	}
	source, err := ads.New(o)
	if err != nil {
		return nil, fmt.Errorf("follow the view of %s: %w", k, err)
	}
	v := &view{Source: source, key: k, pods: make(map[string]*Workload), posing: first.UID}
	source.OnChange(func(*snapshot.Snapshot) { s.tell() })
	source.Reload()
	s.byKey[k] = v
	s.start(v)
	return v, nil
}

// start runs a view, if the Set runs.
func (s *Set) start(v *view) {
	if s.ctx == nil || v.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(s.ctx)
	v.stop, v.done = stop, make(chan struct{})
	s.runs.Go(func() {
		defer close(v.done)
		_ = v.Run(ctx) // which fails for no reason
	})
}

// pose has a view asked for a pod that is there: the one that it is asked for, or another.
func (s *Set) pose(v *view) {
	w := v.pods[v.posing]
	if w == nil {
		for _, uid := range slices.Sorted(maps.Keys(v.pods)) {
			w = v.pods[uid]
			break
		}
	}
	if w == nil {
		return // the last of them: what holds is not changed for that
	}
	v.posing = w.UID
	if err := v.Pose(s.node(w)); err != nil {
		s.opts.Logger.Error("a view is not asked for", "view", v.key, "as", w.UID, "error", err)
	}
}

// leave takes a pod out of its view, which goes some time after the last of them.
func (s *Set) leave(v *view, uid string) {
	delete(v.pods, uid)
	delete(s.byUID, uid)
	if len(v.pods) > 0 {
		s.pose(v)
		return
	}
	v.expires = time.AfterFunc(linger, func() { s.expire(v) })
}

// expire ends a view that has no pods, and forgets what was kept of it.
func (s *Set) expire(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(v.pods) > 0 || s.byKey[v.key] != v {
		return
	}
	delete(s.byKey, v.key)
	s.ended.add(v)
	s.ended.Connected, s.ended.Views = 0, 0
	if v.stop == nil {
		return
	}
	v.stop()
	s.runs.Go(func() {
		<-v.done
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.byKey[v.key] == nil {
			s.keeper.Forget(file(v.key))
		}
	})
	s.tell()
}

// sweep removes the files of views that no pod has: those went while nobody looked.
func (s *Set) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := make(map[string]bool)
	for k := range s.byKey {
		live[file(k)] = true
	}
	s.keeper.Sweep(live)
}

// tell wakes Run.
func (s *Set) tell() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// Run follows the views of all pods until ctx ends.
func (s *Set) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ctx = ctx
	for _, v := range s.byKey {
		s.start(v)
	}
	s.mu.Unlock()
	s.runs.Go(func() { s.freed.run(ctx) })
	sweep := time.AfterFunc(sweepAfter, s.sweep)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			s.runs.Wait()
			return nil
		case <-s.news:
		}
		select {
		case <-ctx.Done():
		case <-time.After(together):
		}
		select { // what came meanwhile is told now
		case <-s.news:
		default:
		}
		s.change()
	}
}

// Seen returns what the workloads see at the moment, by the views' keys. The snapshot of a
// view that was not told yet is an empty one, of generation 0; a pod that had another view
// before sees that one until then.
func (s *Set) Seen() []snapshot.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	sees := make(map[*view][]string)
	for uid, v := range s.byUID {
		switch old := s.left[uid]; {
		case old == nil:
		case v.Snapshot().Generation == 0 && s.byKey[old.key] == old:
			v = old
		default:
			delete(s.left, uid)
		}
		sees[v] = append(sees[v], uid)
	}
	all := make([]snapshot.View, 0, len(s.byKey))
	for _, k := range slices.Sorted(maps.Keys(s.byKey)) {
		v := s.byKey[k]
		all = append(all, snapshot.View{Key: k, Snapshot: v.Snapshot(), Workloads: append([]string{}, sees[v]...)})
	}
	return all
}

// sorted returns the views by their keys.
func (s *Set) sorted() []*view {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*view, 0, len(s.byKey))
	for _, v := range s.byKey {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *view) int { return strings.Compare(a.key, b.key) })
	return all
}
