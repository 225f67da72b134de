package datapath

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/dubway/dubway/agent/datapath/unknown"
	"github.com/dubway/dubway/bpf"
)

// MaxTables is how many tables there can be: slots 0 to MaxTables-1.
const MaxTables = 256

// MaxDestinations is how many destinations one table holds.
const MaxDestinations = 1 << 16

// Unknown is what becomes of connects to addresses that are in no entry of the
// workload's table. Loopback, link-local and the pod's own addresses, sockets that
// are not TCP and the mesh's own are never meant.
type Unknown uint32

// The ways to treat unknown destinations.
const (
	PassUnknown   = Unknown(bpf.SteerStandingUnknownPasses) // untouched
	CountUnknown  = Unknown(bpf.SteerStandingUnknownTried)  // untouched, counted and listed
	RefuseUnknown = Unknown(bpf.SteerStandingUnknownBarred) // fails: ECONNREFUSED, EPERM before Linux 6.0
)

// String returns the word for people: pass, count or refuse.
func (u Unknown) String() string {
	switch u {
	case CountUnknown:
		return "count"
	case RefuseUnknown:
		return "refuse"
	case PassUnknown:
	}
	return "pass"
}

// Table is one generation of one table.
type Table struct {
	Number       uint32 // for its owner, who finds it again after a restart
	Generation   uint64
	Unknown      Unknown // 0 is PassUnknown
	Destinations []Destination
}

// TableStatus is a table that is in force.
type TableStatus struct {
	Number     uint32
	Generation uint64
	Unknown    Unknown
	Entries    int
}

// Steering is which tables are in force, by slot, and which workload uses which
// slot, by cookie; also what an earlier agent left.
type Steering struct {
	Tables    map[uint32]TableStatus
	Workloads map[uint64]uint32
}

// Publish replaces the table in a slot in one step: every connect sees the old or
// the new generation, never a mixture. On an error the old one stays.
func (d *Datapath) Publish(slot uint32, t Table) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	made, err := d.newTable(t)
	if err == nil {
		defer made.Close()
		err = d.maps.Destinations.Put(slot, made)
	}
	if err != nil {
		return fmt.Errorf("publish generation %d of table %d: %w", t.Generation, t.Number, err)
	}
	d.tables[slot] = TableStatus{
		Number: t.Number, Generation: t.Generation, Unknown: max(t.Unknown, PassUnknown), Entries: len(t.Destinations),
	}
	return nil
}

// Withdraw empties a slot, which no workload may use any more. When it returns no
// connect uses the slot that began before the last workload left it: it may be
// filled with another table.
func (d *Datapath) Withdraw(slot uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	// The kernel waits here for the programs that run.
	if err := d.maps.Destinations.Delete(slot); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("withdraw table %d: %w", d.tables[slot].Number, err)
	}
	delete(d.tables, slot)
	return nil
}

// Move makes the table in a slot that of an enrolled workload, in one step.
func (d *Datapath) Move(cookie uint64, slot uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var entry bpf.SteerWorkload
	err := d.maps.Workloads.Lookup(cookie, &entry)
	if err == nil && entry.Table != slot {
		entry.Table = slot
		err = d.maps.Workloads.Update(cookie, &entry, ebpf.UpdateExist)
	}
	if err != nil {
		return fmt.Errorf("move workload %d to slot %d: %w", cookie, slot, err)
	}
	return nil
}

// Steering tells what is in force.
func (d *Datapath) Steering() (Steering, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Steering{Tables: maps.Clone(d.tables), Workloads: map[uint64]uint32{}}
	var cookie uint64
	var entry bpf.SteerWorkload
	entries := d.maps.Workloads.Iterate()
	for entries.Next(&cookie, &entry) {
		s.Workloads[cookie] = entry.Table
	}
	if err := entries.Err(); err != nil {
		return s, fmt.Errorf("list workloads: %w", err)
	}
	return s, nil
}

// Unknowns lists the unknown destinations of workloads, in no order. There is room
// for some thousands; those that were not connected to for the longest time go first.
func (d *Datapath) Unknowns() ([]unknown.Destination, error) {
	return unknown.List(d.maps.Unknowns)
}

// newTable makes the trie of a generation; nobody sees it yet.
func (d *Datapath) newTable(t Table) (*ebpf.Map, error) {
	table, err := ebpf.NewMap(d.spec.Maps[bpf.SteerMapDestinations].InnerMap)
	if err != nil {
		return nil, fmt.Errorf("make table: %w", err)
	}
	rest := bpf.SteerDestination{Generation: t.Generation, Number: t.Number, Standing: bpf.SteerStanding(max(t.Unknown, PassUnknown))}
	if err := table.Put(&bpf.SteerDestinationKey{}, &rest); err != nil {
		return nil, errors.Join(fmt.Errorf("begin table: %w", err), table.Close())
	}
	value := bpf.SteerDestination{Generation: t.Generation, Number: t.Number, Standing: bpf.SteerStandingAsked}
	ask := asked()
	for i, to := range slices.Concat(ask, t.Destinations) {
		if i >= len(ask) {
			value.Standing = to.standing()
		}
		key, err := destinationKey(to)
		if err == nil {
			err = table.Put(&key, &value)
		}
		if err != nil {
			table.Close()
			return nil, fmt.Errorf("add destination %s port %d: %w", to.Prefix, to.Port, fullness(err, table))
		}
	}
	return table, nil
}

// adoptTables reads the tables that an earlier agent published.
func (d *Datapath) adoptTables() error {
	for slot := range uint32(MaxTables) {
		var id ebpf.MapID
		err := d.maps.Destinations.Lookup(slot, &id)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look up destinations: %w", err)
		}
		table, err := ebpf.NewMapFromID(id)
		if err != nil {
			return fmt.Errorf("open destinations %d: %w", id, err)
		}
		var rest bpf.SteerDestination
		n, err := countKeys(table)
		err = errors.Join(err, table.Lookup(&bpf.SteerDestinationKey{}, &rest), table.Close())
		if err != nil {
			return fmt.Errorf("read destinations %d: %w", id, err)
		}
		n -= 1 + len(asked())
		d.tables[slot] = TableStatus{Number: rest.Number, Generation: rest.Generation, Unknown: Unknown(rest.Standing), Entries: n}
	}
	return nil
}

// countDestinations returns the entries of all tables, and how many one may have.
func (d *Datapath) countDestinations() (entries, most int) {
	for _, t := range d.tables {
		entries += t.Entries
	}
	return entries, MaxDestinations
}
