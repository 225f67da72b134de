package l7proxy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/apart"
)

// maxTables bounds the numbers of tables.
const maxTables = 255

// steering is what the agent was told to steer, in this connection to it: one table for
// each view. What all workloads see is table 0.
type steering struct {
	tables map[string]*steered                  // by the key of the view
	rest   bool                                 // table 0 was published
	lists  map[apart.Part][]handoff.Destination // of the snapshots that tables are of
}

func newSteering() *steering {
	return &steering{tables: make(map[string]*steered), lists: make(map[apart.Part][]handoff.Destination)}
}

// steered is what the agent was told of one view.
type steered struct {
	number  uint32
	seen    *snapshot.Snapshot
	table   handoff.DestinationTable
	current bool
	refuse  handoff.Unknown // what becomes of unknown destinations where they are to be refused
}

// unknown is what becomes of unknown destinations.
func (t *steered) unknown(s *snapshot.Snapshot) handoff.Unknown {
	if s.Unknown == snapshot.UnknownRefuse {
		return t.refuse
	}
	return handoff.UnknownPass
}

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
	told := newSteering()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.publish:
		}
		if !p.connected.Load() {
			continue
		}
		if p.afresh.Swap(false) { // tables are those of one connection
			told = newSteering()
		}
		if err := p.steer(ctx, told); err != nil && ctx.Err() == nil {
			p.log.Error("destinations not published", "generation", p.generation.Load(), "error", err)
			time.AfterFunc(time.Second, p.askPublish)
		}
	}
}

// steer tells the agent what it does not know yet. A table that gains workloads goes
// before the one that loses them: so each is in one all the time.
func (p *Proxy) steer(ctx context.Context, told *steering) error {
	views := p.sight.Views()
	live := make(map[string]bool, len(views))
	var gaining, others []*steered
	var failed error
	for i := range views {
		v := &views[i]
		if v.Snapshot.Generation == 0 {
			continue // nothing was said of it yet
		}
		t := told.tables[v.Key]
		if t == nil {
			number, err := told.number(v)
			if err != nil {
				failed = err // the others are steered
				continue
			}
			t = &steered{number: number, table: handoff.DestinationTable{Table: number}, refuse: p.opts.Unknown}
			told.tables[v.Key] = t
		}
		live[v.Key] = true
		gains := told.follow(t, v)
		switch {
		case t.current:
		case gains:
			gaining = append(gaining, t)
		default:
			others = append(others, t)
		}
	}
	told.forget()
	for _, t := range slices.Concat(gaining, others) {
		if err := p.tell(ctx, t.table); err != nil {
			return err
		}
		t.current = true
	}
	for k, t := range told.tables {
		if live[k] {
			continue
		}
		if err := p.tell(ctx, handoff.DestinationTable{Table: t.number}); err != nil {
			return err
		}
		delete(told.tables, k)
	}
	if p.control == nil || told.rest { // of files, it is the view's
		return failed
	}
	if err := p.tell(ctx, handoff.DestinationTable{}); err != nil {
		return err
	}
	told.rest = true
	return failed
}

// number is that of the table of a view: 0 for what all see.
func (s *steering) number(v *snapshot.View) (uint32, error) {
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
func (s *steering) follow(t *steered, v *snapshot.View) (gains bool) {
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
	entries := s.entries(v.Snapshot)
	// What all workloads see is told anew each time: the agent's generation is the proxy's
	// then, and whoever waits for one of them to be in force can see it.
	if t.seen == nil || v.Workloads == nil || !slices.Equal(entries, t.table.Entries) || t.table.Unknown != t.unknown(v.Snapshot) {
		t.table.Entries, t.table.Unknown, t.current = entries, t.unknown(v.Snapshot), false
	}
	t.seen = v.Snapshot
	return gains
}

// entries are the destinations of a snapshot: one list for all that have the same
// listeners, as most views of a mesh do, and as a view has after most changes.
func (s *steering) entries(of *snapshot.Snapshot) []handoff.Destination {
	k := apart.Listeners(of)
	if known, ok := s.lists[k]; ok {
		return known
	}
	want := of.Destinations()
	entries := make([]handoff.Destination, len(want))
	for i, d := range want {
		entries[i] = handoff.Destination(d)
	}
	s.lists[k] = entries
	return entries
}

// forget lets lists go that no table is of any more.
func (s *steering) forget() {
	live := make(map[apart.Part]bool)
	for _, t := range s.tables {
		if t.seen != nil {
			live[apart.Listeners(t.seen)] = true
		}
	}
	maps.DeleteFunc(s.lists, func(k apart.Part, _ []handoff.Destination) bool { return !live[k] })
}

// tell publishes one generation of a table.
func (p *Proxy) tell(ctx context.Context, t handoff.DestinationTable) error {
	limit, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return p.agent.Destinations(limit, p.generation.Load(), t)
}
