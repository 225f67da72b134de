package steering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/handoff/lack"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// agent puts workloads into tables as the real one does, and refuses what it is told to.
type agent struct {
	told   []string          // "NUMBER: WORKLOAD..."
	tables map[string]uint32 // by UID; the others are in table 0
	fails  map[uint32]error  // by table
}

var _ Agent = (*agent)(nil)

func (a *agent) Destinations(_ context.Context, _ uint64, t handoff.DestinationTable) error {
	if err := a.fails[t.Table]; err != nil {
		return err
	}
	a.told = append(a.told, strings.TrimSpace(fmt.Sprintf("%d: %s", t.Table, strings.Join(t.Workloads, " "))))
	for uid, at := range a.tables {
		if at == t.Table && !slices.Contains(t.Workloads, uid) {
			delete(a.tables, uid)
		}
	}
	for _, uid := range t.Workloads {
		a.tables[uid] = t.Table
	}
	return nil
}

// rig is a Steering and its agent.
type rig struct {
	*Steering

	t     *testing.T
	agent *agent
	lists map[string][]*snapshot.Listener
	views []snapshot.View
}

func newRig(t *testing.T, viewed bool) *rig {
	t.Helper()
	a := &agent{tables: make(map[string]uint32), fails: make(map[uint32]error)}
	return &rig{
		Steering: New(Options{Agent: a, Unknown: handoff.UnknownRefuse, Viewed: viewed}),
		t:        t, agent: a, lists: make(map[string][]*snapshot.Listener),
	}
}

// see makes views of texts "LIST WORKLOAD...". "-" is a view that was told nothing, LIST! one
// that refuses the unknown; "0" has no listener.
func (r *rig) see(texts ...string) {
	r.views = nil
	for _, text := range texts {
		words := strings.Fields(text)
		name := strings.TrimSuffix(words[0], "!")
		if r.lists[name] == nil && name != "-" && name != "0" {
			r.lists[name] = []*snapshot.Listener{{Name: name}}
		}
		s := &snapshot.Snapshot{Generation: 1, Listeners: r.lists[name]}
		if name == "-" {
			s.Generation = 0
		}
		if name != words[0] {
			s.Unknown = snapshot.UnknownRefuse
		}
		r.views = append(r.views, snapshot.View{Key: text, Snapshot: s, Workloads: words[1:]})
	}
}

// tell tells the agent, and returns what it was told.
func (r *rig) tell() ([]string, error) {
	r.agent.told = nil
	err := r.Tell(r.t.Context(), 1, r.views)
	return r.agent.told, err
}

// lacks returns "WORKLOAD LACK" of each workload of a view.
func (r *rig) lacks() []string {
	var list []string
	for _, v := range r.views {
		for _, uid := range v.Workloads {
			list = append(list, uid+" "+string(r.InForce(uid, v.Snapshot)))
		}
	}
	return list
}

func (r *rig) lack(want ...string) {
	r.t.Helper()
	for i := range want {
		if !strings.Contains(want[i], " ") {
			want[i] += " "
		}
	}
	if got := r.lacks(); !slices.Equal(got, want) {
		r.t.Errorf("lacks %q, want %q", got, want)
	}
}

// TestTables: views with the same listeners have one table, and a table whose listeners
// nobody sees any more goes on as that of who saw them.
func TestTables(t *testing.T) {
	steps := []struct {
		name  string
		views []string
		want  []string // "NUMBER: WORKLOAD..."
	}{
		{"two alike, one other, one that knows nothing", []string{"a 1 2", "b 3", "a 4", "- 5"}, []string{"1: 1 2 4", "2: 3", "0:"}},
		{"all of one table change together: it goes on", []string{"c 1 2", "b 3", "c 4"}, nil},
		{"one of them goes ahead: it has another", []string{"a 1 2", "b 3", "c 4"}, []string{"3: 1 2", "1: 4"}},
		{"and the rest follows", []string{"a 1 2", "b 3", "a 4"}, []string{"3: 1 2 4", "1:"}},
		{"what is unknown counts too", []string{"a 1 2", "b 3", "b! 4"}, []string{"1: 4", "3: 1 2"}},
		{"who has gone is named no more", []string{"a 1", "b 3"}, []string{"3: 1", "1:"}},
	}
	r := newRig(t, true)
	for _, step := range steps {
		r.see(step.views...)
		got, err := r.tell()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: told %q, want %q", step.name, got, step.want)
		}
		for _, v := range r.views {
			for _, uid := range v.Workloads {
				is, told := r.InForce(uid, v.Snapshot), v.Snapshot.Generation > 0
				if told != (is == lack.None) {
					t.Errorf("%s: %s lacks %q", step.name, uid, is)
				}
				if _, in := r.agent.tables[uid]; in != told {
					t.Errorf("%s: %s is in a table: %t", step.name, uid, in)
				}
			}
		}
	}
}

// TestInForce: what a workload sees is in force when the agent has acknowledged it in this
// connection, also where it is nothing.
func TestInForce(t *testing.T) {
	r := newRig(t, true)
	r.see("a 1", "0 2")
	r.lack("1 table", "2 table")
	if _, err := r.tell(); err != nil {
		t.Fatal(err)
	}
	r.lack("1", "2")

	r.see("b 1", "0 2") // it sees something else, of which the agent was not told
	r.lack("1 table", "2")
	r.agent.fails[1] = handoff.ErrNotConnected
	if _, err := r.tell(); err != nil {
		t.Fatalf("the same destinations are told again: %v", err)
	}
	r.lack("1", "2")

	r.Afresh()
	r.lack("1 table", "2 table")
	if _, err := r.tell(); !errors.Is(err, handoff.ErrNotConnected) {
		t.Errorf("Tell = %v", err)
	}
	r.lack("1 table", "2 table")
	delete(r.agent.fails, 1)
	if _, err := r.tell(); err != nil {
		t.Fatal(err)
	}
	r.lack("1", "2")
}

// TestRefused: whose table is refused is told apart, others are steered, and nobody leaves
// a table that is in force.
func TestRefused(t *testing.T) {
	r := newRig(t, true)
	full := errors.New("agent: too many entries")
	r.see("a 1", "a 2")
	if _, err := r.tell(); err != nil {
		t.Fatal(err)
	}
	r.see("a 1", "b 2", "c 3")
	r.agent.fails[2] = full
	for range 2 { // again, it is still the first to be told
		if got, err := r.tell(); !errors.Is(err, full) || slices.Contains(got, "1: 1") {
			t.Errorf("told %q, %v", got, err)
		}
		r.lack("1", "2 refused", "3")
		if at := r.agent.tables["2"]; at != 1 {
			t.Errorf("it is in table %d", at)
		}
	}
	r.agent.fails = nil
	if got, err := r.tell(); err != nil || !slices.Equal(got, []string{"2: 2", "1: 1"}) {
		t.Errorf("told %q, %v", got, err)
	}
	r.lack("1", "2", "3")
}

// TestTooMany: there are 255 tables.
func TestTooMany(t *testing.T) {
	r := newRig(t, true)
	var all []string
	for i := range maxTables + 1 {
		all = append(all, fmt.Sprintf("list%d w%d", i, i))
	}
	r.see(all...)
	if _, err := r.tell(); err == nil || !strings.Contains(err.Error(), "more than 255 different configurations") {
		t.Errorf("Tell = %v", err)
	}
	got := r.lacks()
	if last := got[maxTables]; last != "w255 refused" {
		t.Errorf("the last one: %q", last)
	}
	if slices.ContainsFunc(got[:maxTables], func(s string) bool { return !strings.HasSuffix(s, " ") }) {
		t.Errorf("others lack something: %q", got)
	}
}

// TestEverybody: what all workloads see is in force for whoever comes.
func TestEverybody(t *testing.T) {
	r := newRig(t, false)
	empty := &snapshot.Snapshot{Generation: 1}
	r.views = []snapshot.View{{Snapshot: empty}}
	if l := r.InForce("1", empty); l != lack.Table {
		t.Errorf("before: %q", l)
	}
	if got, err := r.tell(); err != nil || !slices.Equal(got, []string{"0:"}) {
		t.Fatalf("told %q, %v", got, err)
	}
	if l := r.InForce("1", empty); l != lack.None {
		t.Errorf("an empty one: %q", l)
	}
	next := &snapshot.Snapshot{Generation: 2, Listeners: []*snapshot.Listener{{Name: "a"}}}
	r.views = []snapshot.View{{Snapshot: next}}
	r.agent.fails[0] = errors.New("agent: too many entries")
	if _, err := r.tell(); err == nil {
		t.Error("nothing failed")
	}
	if l := r.InForce("1", next); l != lack.Refused {
		t.Errorf("refused: %q", l)
	}
	r.agent.fails = nil
	if _, err := r.tell(); err != nil {
		t.Fatal(err)
	}
	if l := r.InForce("2", next); l != lack.None {
		t.Errorf("in the end: %q", l)
	}
}
