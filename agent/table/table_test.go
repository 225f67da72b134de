package table

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/internal/handoff"
)

// kernel is a Datapath that remembers, outlives Tables, and minds what must never
// be: a workload in a slot without a table.
type kernel struct {
	*testing.T

	tables    map[uint32]datapath.TableStatus
	workloads map[uint64]uint32
	log       []string
	full      error // of the next Publish
}

var _ Datapath = (*kernel)(nil)

func newKernel(t *testing.T) *kernel {
	t.Helper()
	return &kernel{T: t, tables: map[uint32]datapath.TableStatus{}, workloads: map[uint64]uint32{}}
}

func (k *kernel) notef(format string, args ...any) {
	k.Helper()
	k.log = append(k.log, fmt.Sprintf(format, args...))
	for cookie, slot := range k.workloads {
		if _, ok := k.tables[slot]; !ok && slot != 0 {
			k.Errorf("after %q: workload %d is in slot %d, which is empty", k.log, cookie, slot)
		}
	}
}

func (k *kernel) SetWorkload(w datapath.Workload) error {
	k.workloads[w.Cookie] = w.Slot
	k.notef("set %d in %d", w.Cookie, w.Slot)
	return nil
}

func (k *kernel) DeleteWorkload(cookie uint64) error {
	delete(k.workloads, cookie)
	k.notef("delete %d", cookie)
	return nil
}

func (k *kernel) Publish(slot uint32, t datapath.Table) error {
	if k.full != nil {
		return k.full
	}
	k.tables[slot] = datapath.TableStatus{Number: t.Number, Generation: t.Generation, Unknown: t.Unknown, Entries: len(t.Destinations)}
	k.notef("table %d.%d in %d", t.Number, t.Generation, slot)
	return nil
}

func (k *kernel) Withdraw(slot uint32) error {
	delete(k.tables, slot)
	k.notef("withdraw %d", slot)
	return nil
}

func (k *kernel) Move(cookie uint64, slot uint32) error {
	if _, ok := k.workloads[cookie]; !ok {
		return fmt.Errorf("no workload %d", cookie)
	}
	k.workloads[cookie] = slot
	k.notef("move %d to %d", cookie, slot)
	return nil
}

// did compares what was done since it was asked last.
func (k *kernel) did(step string, want ...string) {
	k.Helper()
	if !slices.Equal(k.log, want) {
		k.Errorf("%s: did %q, want %q", step, k.log, want)
	}
	k.log = nil
}

// start is an agent over what is there.
func (k *kernel) start() *Tables {
	return New(k, datapath.Steering{Tables: maps.Clone(k.tables), Workloads: maps.Clone(k.workloads)}, slog.New(slog.DiscardHandler))
}

func (k *kernel) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func destinations(n int) []datapath.Destination {
	all := make([]datapath.Destination, n)
	for i := range all {
		all[i].Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
	}
	return all
}

func generation(number uint32, n uint64, uids ...string) *Generation {
	return &Generation{Table: datapath.Table{Number: number, Generation: n, Destinations: destinations(1)}, Workloads: uids}
}

func workload(cookie uint64) datapath.Workload { return datapath.Workload{Cookie: cookie} }

func TestOrder(t *testing.T) {
	k := newKernel(t)
	tables := k.start()
	tables.Begin()
	k.must(tables.SetWorkload("a", workload(1)))
	k.must(tables.SetWorkload("b", workload(2)))
	k.did("no tables", "set 1 in 0", "set 2 in 0")
	k.must(tables.Put(generation(5, 1, "a", "late")))
	k.did("filled before it is used", "table 5.1 in 1", "move 1 to 1")
	k.must(tables.SetWorkload("late", workload(3)))
	k.did("a workload that comes after its table", "set 3 in 1")
	k.must(tables.SetWorkload("a", workload(1)))
	k.did("put again", "set 1 in 1")
	k.must(tables.DeleteWorkload(1))
	k.must(tables.SetWorkload("a", workload(11)))
	k.did("comes back", "delete 1", "set 11 in 1")
	k.must(tables.Put(generation(5, 2, "a", "late")))
	k.did("a flip", "table 5.2 in 1")
	k.must(tables.Put(generation(6, 2, "a", "b")))
	k.did("taken over by another table", "table 6.2 in 2", "move 11 to 2", "move 2 to 2")
	k.must(tables.Put(generation(5, 3, "late")))
	k.did("not named, as it left", "table 5.3 in 1")
	k.must(tables.Put(generation(6, 3, "a")))
	k.did("who leaves goes first", "move 2 to 0", "table 6.3 in 2")
	k.must(tables.Put(&Generation{Table: datapath.Table{Number: 6, Generation: 4}}))
	k.did("given back after its workloads left", "move 11 to 0", "withdraw 2")
	k.must(tables.Put(&Generation{Table: datapath.Table{Number: 7, Generation: 4}}))
	k.did("nothing to give back")
	k.must(tables.Put(&Generation{Table: datapath.Table{Number: 5, Generation: 4, Unknown: datapath.RefuseUnknown}, Workloads: []string{"late"}}))
	k.did("without entries, not without workloads", "table 5.4 in 1")
	k.must(tables.Put(&Generation{Table: datapath.Table{Number: 0, Generation: 4}}))
	k.did("table 0 is never given back", "table 0.4 in 0")
	k.must(tables.Put(generation(8, 4)))
	k.did("a table that nobody is in yet", "table 8.4 in 2")
}

func TestRefusedGenerationChangesNothing(t *testing.T) {
	k := newKernel(t)
	tables := k.start()
	tables.Begin()
	k.must(tables.SetWorkload("a", workload(1)))
	k.must(tables.SetWorkload("b", workload(2)))
	k.must(tables.Put(generation(1, 1, "a")))
	k.log = nil
	k.full = datapath.ErrMapFull
	if err := tables.Put(generation(1, 2, "b")); !errors.Is(err, datapath.ErrMapFull) {
		t.Errorf("put = %v", err)
	}
	if err := tables.Put(generation(2, 2, "b")); !errors.Is(err, datapath.ErrMapFull) {
		t.Errorf("put = %v", err)
	}
	k.did("full", "move 1 to 0", "move 1 to 1")
	k.full = nil
	bad := generation(1, 3, "b")
	bad.Destinations[0].Prefix = netip.MustParsePrefix("127.0.0.1/32")
	if err := tables.Put(bad); err == nil || !strings.Contains(err.Error(), "never steered") {
		t.Errorf("put = %v", err)
	}
	k.did("never steered")
	k.must(tables.SetWorkload("c", workload(3)))
	k.must(tables.Put(generation(2, 3, "c")))
	k.did("nobody took its slot", "set 3 in 0", "table 2.3 in 2", "move 3 to 2")
}

// TestNextProxyNumbersAnew: the tables of an earlier proxy, and of an earlier agent,
// steer until the next proxy's do.
func TestNextProxyNumbersAnew(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("agent restarts %t", restart), func(t *testing.T) {
			k := newKernel(t)
			tables := k.start()
			tables.Begin()
			for i, uid := range []string{"a", "b", "c"} {
				k.must(tables.SetWorkload(uid, workload(uint64(i+1))))
			}
			k.must(tables.Put(generation(1, 1, "a", "gone")))
			k.must(tables.Put(generation(2, 1, "b")))
			k.must(tables.Put(generation(0, 1)))
			k.log = nil
			if restart {
				tables = k.start()
				k.must(tables.SetWorkload("a", workload(1)))
				k.must(tables.SetWorkload("b", workload(2)))
				k.must(tables.SetWorkload("c", workload(3)))
				k.did("they keep their tables", "set 1 in 1", "set 2 in 2", "set 3 in 0")
			}
			if s, ok := tables.Of("b"); !ok || s.Number != 2 {
				t.Errorf("b is in %+v, %t", s, ok)
			}
			tables.Begin()
			k.must(tables.Put(generation(1, 9, "b")))
			k.did("the same number is another table", "table 1.9 in 3", "move 2 to 3")
			if all := tables.Status(); len(all) != 4 || !all[1].Earlier || all[1].Workloads != 1 || all[2].Earlier || all[2].Generation != 9 {
				t.Errorf("status is %+v", all)
			}
			k.must(tables.Put(generation(0, 9)))
			k.did("and the earlier ones go", "table 0.9 in 0", "move 1 to 0", "withdraw 1", "withdraw 2")
			if all := tables.Status(); len(all) != 2 || all[0].Workloads != 2 || all[1].Workloads != 1 || all[0].Earlier {
				t.Errorf("status is %+v", all)
			}
		})
	}
}

// TestInheritedWorkloadsMove: also those that the new agent has not taken over.
func TestInheritedWorkloadsMove(t *testing.T) {
	k := newKernel(t)
	tables := k.start()
	tables.Begin()
	k.must(tables.SetWorkload("a", workload(1)))
	k.must(tables.SetWorkload("b", workload(2)))
	k.must(tables.Put(generation(1, 1, "a", "b")))
	k.log = nil
	tables = k.start()
	k.must(tables.DeleteWorkload(2))
	tables.Begin()
	k.must(tables.Put(generation(0, 2)))
	k.did("retired", "delete 2", "table 0.2 in 0", "move 1 to 0", "withdraw 1")
	k.must(tables.SetWorkload("a", workload(1)))
	k.did("taken over late", "set 1 in 0")
}

// TestLimits: what a proxy can fill is bounded, also if it comes again and again.
func TestLimits(t *testing.T) {
	k := newKernel(t)
	tables := k.start()
	tables.Begin()
	big := destinations(datapath.MaxDestinations)
	put := func(number uint32, uids ...string) error {
		return tables.Put(&Generation{Table: datapath.Table{Number: number, Generation: 1, Destinations: big}, Workloads: uids})
	}
	fill := func() (n uint32) {
		for n < 300 && put(n+1) == nil {
			n++
		}
		return n
	}
	const most = maxEntries / datapath.MaxDestinations
	if n := fill(); n != most {
		t.Errorf("%d full tables, want %d", n, most)
	}
	if err := put(most); err != nil {
		t.Errorf("a table in the place of its own earlier generation: %v", err)
	}
	total := func() (n int) {
		for _, table := range k.tables {
			n += table.Entries
		}
		return n
	}
	for range 5 {
		tables.Begin()
		fill()
		if n := total(); n > 2*maxEntries {
			t.Fatalf("%d entries with those of earlier proxies", n)
		}
	}
	tables.Begin()
	k.must(tables.Put(generation(0, 1))) // a good one comes in
	if n := total(); n != 1 {
		t.Errorf("%d entries are left", n)
	}
	big = destinations(1)
	if n := fill(); n != datapath.MaxTables-1 {
		t.Errorf("%d tables, want %d", n, datapath.MaxTables-1)
	}
	if err := put(1000); err == nil || !strings.Contains(err.Error(), "255") {
		t.Errorf("one table too many: %v", err)
	}
	uids := make([]string, maxWorkloads+1)
	for i := range uids {
		uids[i] = fmt.Sprint(i)
	}
	k.must(put(1, uids[:maxWorkloads]...))
	if err := put(2, uids[maxWorkloads]); err == nil || !strings.Contains(err.Error(), "workloads") {
		t.Errorf("one workload too many: %v", err)
	}
	k.must(put(2, uids[0])) // it is counted once
}

func TestParts(t *testing.T) {
	entry := handoff.Destination{Prefix: netip.MustParsePrefix("10.0.0.1/32"), Port: 1}
	var p Parts
	for range 2 { // one generation after another
		for i, part := range []handoff.Destinations{
			{Table: 3, Generation: 7, Workloads: []string{"a"}},
			{Table: 3, Generation: 7, Workloads: []string{"b"}, Entries: []handoff.Destination{entry}},
			{Table: 3, Generation: 7, Entries: []handoff.Destination{entry}, Unknown: handoff.UnknownCount, Last: true},
		} {
			g, err := p.Add(&part)
			if err != nil || (g != nil) != part.Last {
				t.Fatalf("part %d: %+v, %v", i, g, err)
			}
			if g != nil && (g.Number != 3 || g.Generation != 7 || g.Unknown != datapath.CountUnknown ||
				!slices.Equal(g.Workloads, []string{"a", "b"}) || len(g.Destinations) != 2 || g.Destinations[1].Port != 1) {
				t.Errorf("got %+v", g)
			}
		}
	}
	for name, parts := range map[string][]handoff.Destinations{
		"another generation": {{Generation: 1}, {Generation: 2}},
		"another table":      {{Table: 1, Generation: 1}, {Table: 2, Generation: 1}},
		"many entries":       {{Generation: 1, Entries: make([]handoff.Destination, maxEntries)}, {Generation: 1, Entries: make([]handoff.Destination, 1)}},
		"many workloads":     {{Table: 1, Generation: 1, Workloads: make([]string, maxWorkloads)}, {Table: 1, Generation: 1, Workloads: make([]string, 1)}},
	} {
		var p Parts
		if _, err := p.Add(&parts[0]); err != nil {
			t.Errorf("%s: the first part: %v", name, err)
		}
		if g, err := p.Add(&parts[1]); err == nil {
			t.Errorf("%s: accepted as %+v", name, g)
		}
	}
}
