// Package steering tells the agent what of workloads' connects to steer, one table for all
// who are steered alike, and knows what of it is in force. It decides no route.
package steering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/apart"
	"github.com/dubway/dubway/l7proxy/snapshot/destinations"
)

const (
	maxTables = 255              // bounds their numbers
	tellLimit = 10 * time.Second // for the agent to answer
)

// Agent takes tables; handoff.Client has it.
type Agent interface {
	// Destinations returns when a generation of a table is in force, or refused.
	Destinations(ctx context.Context, generation uint64, t handoff.DestinationTable) error
}

var _ Agent = (*handoff.Client)(nil)

// Options of a Steering. Agent must be given.
type Options struct {
	Agent Agent
	// Unknown is what becomes of unknown destinations where they are to be refused.
	Unknown handoff.Unknown
	// Viewed says that workloads have views of their own: table 0 is empty then, and for
	// those of which nothing was said yet.
	Viewed bool
}

// Steering is what the agent was told to steer, in one connection to it: one table for
// all views with the same destinations, which in most meshes is every view. What all
// workloads see is table 0. One goroutine tells; InForce is safe for concurrent use.
type Steering struct {
	opts   Options
	tables map[sort]*steered
	rest   bool // table 0 was published
	force  *force
}

// New returns a Steering of which nothing was told.
func New(opts Options) *Steering {
	return &Steering{opts: opts, tables: make(map[sort]*steered), force: newForce()}
}

// Afresh forgets all that was told: tables are those of one connection.
func (s *Steering) Afresh() {
	s.tables, s.rest = make(map[sort]*steered), false
	s.force.clear()
}

// sort is what views have in common that are steered alike.
type sort struct {
	listeners apart.Part
	unknown   snapshot.Unknown
	all       bool // of what all workloads see
}

func sortOf(v *snapshot.View) sort {
	if v.Workloads == nil {
		return sort{all: true}
	}
	return like(v.Snapshot)
}

// like is what of a snapshot a table is made of.
func like(s *snapshot.Snapshot) sort { return sort{apart.Listeners(s), s.Unknown, false} }

// sorts merges views that are steered alike, in their order. Those of which nothing was
// said yet are left out.
func sorts(views []snapshot.View) []snapshot.View {
	var list []snapshot.View
	at := make(map[sort]int)
	for _, v := range views {
		if v.Snapshot.Generation == 0 {
			continue
		}
		k := sortOf(&v)
		i, ok := at[k]
		if !ok {
			at[k] = len(list)
			list = append(list, v)
			continue
		}
		list[i].Workloads = slices.Concat(list[i].Workloads, v.Workloads)
	}
	return list
}

// steered is what the agent was told of one sort of views.
type steered struct {
	number  uint32
	seen    *snapshot.Snapshot
	sort    sort // of seen
	forced  sort // of what force knows
	table   handoff.DestinationTable
	current bool
	gains   bool            // not current: it has workloads that the agent's does not have
	refuse  handoff.Unknown // what becomes of unknown destinations where they are to be refused
}

// unknown is what becomes of unknown destinations.
func (t *steered) unknown(s *snapshot.Snapshot) handoff.Unknown {
	if s.Unknown == snapshot.UnknownRefuse {
		return t.refuse
	}
	return handoff.UnknownPass
}

// Tell tells the agent what it does not know yet of views. A table that gains workloads
// goes before the one that loses them: so each is in one all the time.
func (s *Steering) Tell(ctx context.Context, generation uint64, views []snapshot.View) error {
	gaining, others, live, errs := s.follow(views)
	defer s.force.settle()
	failed := errors.Join(errs...)
	var refused []error
	for _, t := range gaining {
		err := s.tell(ctx, generation, t)
		if gone(err) {
			return err
		}
		if err != nil { // the next one may have room
			refused = append(refused, err)
		}
	}
	if len(refused) > 0 { // who was to join one of these has to stay where he is
		return errors.Join(failed, errors.Join(refused...))
	}
	for _, t := range others {
		if err := s.tell(ctx, generation, t); err != nil {
			return err
		}
	}
	for k, t := range s.tables {
		if live[k] {
			continue
		}
		if err := s.tell(ctx, generation, &steered{table: handoff.DestinationTable{Table: t.number}}); err != nil {
			return err
		}
		delete(s.tables, k)
	}
	if !s.opts.Viewed || s.rest { // of files, it is the view's
		return failed
	}
	if err := s.tell(ctx, generation, &steered{}); err != nil {
		return err
	}
	s.rest = true
	return failed
}

// tell publishes one generation of a table.
func (s *Steering) tell(ctx context.Context, generation uint64, t *steered) error {
	limit, cancel := context.WithTimeout(ctx, tellLimit)
	defer cancel()
	err := s.opts.Agent.Destinations(limit, generation, t.table)
	switch {
	case err == nil:
		t.current, t.gains, t.forced = true, false, t.sort
		s.force.put(t)
	case !gone(err):
		s.force.refuse(t)
	}
	return err
}

// gone tells whether an error is the connection's, and no refusal.
func gone(err error) bool {
	return errors.Is(err, handoff.ErrNotConnected) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// follow makes tables of views, and returns those that the agent is to be told of: first
// those that gain workloads.
func (s *Steering) follow(views []snapshot.View) (gaining, others []*steered, live map[sort]bool, errs []error) {
	views = sorts(views)
	s.inherit(views)
	live = make(map[sort]bool, len(views))
	for i := range views {
		v, k := &views[i], sortOf(&views[i])
		t := s.tables[k]
		if t == nil {
			number, err := s.number(v)
			if err != nil {
				s.force.refuse(&steered{table: handoff.DestinationTable{Workloads: v.Workloads}})
				errs = append(errs, err) // the others are steered
				continue
			}
			t = &steered{number: number, table: handoff.DestinationTable{Table: number}, refuse: s.opts.Unknown}
			s.tables[k] = t
		}
		live[k] = true
		t.gains = t.follow(v) || t.gains
		switch {
		case t.current && t.forced != t.sort: // other listeners with the same destinations
			t.forced = t.sort
			s.force.put(t)
		case t.current:
		case t.gains:
			gaining = append(gaining, t)
		default:
			others = append(others, t)
		}
	}
	return gaining, others, live, errs
}

// number is that of the table of a view: 0 for what all see.
func (s *Steering) number(v *snapshot.View) (uint32, error) {
	if v.Workloads == nil {
		return 0, nil
	}
	used := make(map[uint32]bool, len(s.tables))
	for _, t := range s.tables {
		used[t.number] = true
	}
	for n := uint32(1); n <= maxTables; n++ {
		if !used[n] {
			return n, nil
		}
	}
	return 0, fmt.Errorf("workloads see more than %d different configurations: those of %s are not steered", maxTables, v.Key)
}

// follow makes a table what a view says, and tells whether it has workloads that it had
// not before.
func (t *steered) follow(v *snapshot.View) (gains bool) {
	workloads := slices.Sorted(slices.Values(v.Workloads))
	for _, uid := range workloads {
		_, had := slices.BinarySearch(t.table.Workloads, uid)
		gains = gains || !had
	}
	if !slices.Equal(workloads, t.table.Workloads) {
		t.table.Workloads, t.current = workloads, false
	}
	if t.seen == v.Snapshot {
		return gains
	}
	if t.seen != nil && v.Workloads != nil && sortOf(v) == t.sort {
		t.seen = v.Snapshot // most changes are none of listeners
		return gains
	}
	want := destinations.Of(v.Snapshot)
	entries := make([]handoff.Destination, len(want))
	for i, d := range want {
		entries[i] = handoff.Destination(d)
	}
	// What all workloads see is told anew each time: the agent's generation is the proxy's
	// then, and whoever waits for one of them to be in force can see it.
	if t.seen == nil || v.Workloads == nil || !slices.Equal(entries, t.table.Entries) || t.table.Unknown != t.unknown(v.Snapshot) {
		t.table.Entries, t.table.Unknown, t.current = entries, t.unknown(v.Snapshot), false
	}
	t.seen, t.sort = v.Snapshot, sortOf(v)
	return gains
}

// inherit gives the tables of what nobody sees any more to who saw it: the next generation
// of a table is one swap, and another table beside it would be as much memory again.
func (s *Steering) inherit(views []snapshot.View) {
	seen := make(map[sort]bool, len(views))
	for i := range views {
		seen[sortOf(&views[i])] = true
	}
	for k, t := range s.tables {
		if seen[k] || k.all {
			continue
		}
		for i := range views {
			heir := sortOf(&views[i])
			if s.tables[heir] == nil && !heir.all && within(t.table.Workloads, views[i].Workloads) {
				delete(s.tables, k)
				s.tables[heir] = t
				break
			}
		}
	}
}

// within tells whether all of some workloads are among others; of none it is not said.
func within(some, others []string) bool {
	missing := func(uid string) bool { return !slices.Contains(others, uid) }
	return len(some) > 0 && !slices.ContainsFunc(some, missing)
}
