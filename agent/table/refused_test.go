package table

import (
	"errors"
	"testing"
)

// TestRefusedTable: the ledger knows of enrolled workloads why their last generation is not
// in force, until one is or another proxy connects.
func TestRefusedTable(t *testing.T) {
	k := newKernel(t)
	tables := k.start()
	full := errors.New("the map is full")
	want := func(step, uid string, refused error, steered bool) {
		t.Helper()
		if err := tables.Refused(uid); !errors.Is(err, refused) || refused == nil && err != nil {
			t.Errorf("%s: %s is refused: %v, want %v", step, uid, err, refused)
		}
		if got := tables.Steered(uid); got != steered {
			t.Errorf("%s: %s is steered: %t", step, uid, got)
		}
	}
	refuse := func(g *Generation) {
		t.Helper()
		k.full = full
		if err := tables.Put(g); !errors.Is(err, full) {
			t.Fatalf("Put = %v", err)
		}
		k.full = nil
	}
	tables.Begin()
	k.must(tables.SetWorkload("a", workload(1)))
	k.must(tables.SetWorkload("b", workload(2)))
	want("nothing published", "a", nil, false)
	refuse(generation(1, 1, "a", "stranger"))
	want("refused", "a", full, false)
	want("refused", "b", nil, false)
	want("not enrolled", "stranger", nil, false)
	k.must(tables.Put(generation(1, 2, "a")))
	want("in force", "a", nil, true)
	refuse(generation(1, 3, "a"))
	want("the earlier one stays", "a", full, true)
	k.must(tables.DeleteWorkload(1))
	k.must(tables.SetWorkload("a", workload(3)))
	want("comes back", "a", nil, true)
	refuse(generation(1, 4, "a"))
	tables.Begin()
	want("another proxy", "a", nil, true)

	refuse(generation(0, 5))
	want("what all see", "b", full, false)
	want("but not who has his own", "a", nil, true)
	k.must(tables.Put(&Generation{}))
	want("an empty table 0 is nobody's configuration", "b", nil, false)
	k.must(tables.Put(generation(0, 6)))
	want("of files", "b", nil, true)
}
