package table

import (
	"cmp"
	"slices"

	"github.com/dubway/dubway/agent/datapath"
)

// Status is a table that is in force.
type Status struct {
	datapath.TableStatus

	Workloads int // enrolled ones that it steers
	// Earlier says that a proxy before the connected one published it: it stays until
	// that one published all of its own.
	Earlier bool
}

// Status returns the tables, table 0 first.
func (t *Tables) Status() []Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	workloads := make(map[uint32]int)
	for uid := range t.enrolled {
		workloads[t.of[uid]]++
	}
	for _, slot := range t.inherited {
		workloads[slot]++
	}
	all := make([]Status, 0, len(t.tables))
	for slot, table := range t.tables {
		at, known := t.slots[table.Number]
		all = append(all, Status{TableStatus: table, Workloads: workloads[slot], Earlier: !known || at != slot})
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Generation, b.Generation))
	})
	return all
}

// Of returns the table of an enrolled workload; false if none is in force for it.
func (t *Tables) Of(uid string) (datapath.TableStatus, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.enrolled[uid]; !ok {
		return datapath.TableStatus{}, false
	}
	table, ok := t.tables[t.of[uid]]
	return table, ok
}
