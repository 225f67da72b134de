package l7proxy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/apart"
	"github.com/dubway/dubway/l7proxy/snapshot/destinations"
)

// maxTables bounds the numbers of tables.
const maxTables = 255

// steering is what the agent was told to steer, in this connection to it: one table for
// all views with the same destinations, which in most meshes is every view. What all
// workloads see is table 0.
type steering struct {
	tables map[sort]*steered
	rest   bool // table 0 was published
}

func newSteering() *steering { return &steering{tables: make(map[sort]*steered)} }

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
	return sort{apart.Listeners(v.Snapshot), v.Snapshot.Unknown, false}
}

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
	views := sorts(p.sight.Views())
	told.inherit(views)
	live := make(map[sort]bool, len(views))
	var gaining, others []*steered
	var failed error
	for i := range views {
		v, k := &views[i], sortOf(&views[i])
		t := told.tables[k]
		if t == nil {
			number, err := told.number(v)
			if err != nil {
				failed = err // the others are steered
				continue
			}
			t = &steered{number: number, table: handoff.DestinationTable{Table: number}, refuse: p.opts.Unknown}
			told.tables[k] = t
		}
		live[k] = true
		gains := t.follow(v)
		switch {
		case t.current:
		case gains:
			gaining = append(gaining, t)
		default:
			others = append(others, t)
		}
	}
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
func (s *steering) inherit(views []snapshot.View) {
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

// tell publishes one generation of a table.
func (p *Proxy) tell(ctx context.Context, t handoff.DestinationTable) error {
	limit, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return p.agent.Destinations(limit, p.generation.Load(), t)
}
