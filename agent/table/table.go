// Package table keeps which workload is steered by which table of destinations: it
// puts what proxies publish into slots of the datapath and workloads into those, in
// an order in which nobody is steered by a table that is another's, or missing.
//
// What a proxy says is taken as coming from somebody who may have been taken over:
// what it may fill is bounded (limits.go).
package table

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/dubway/dubway/agent/datapath"
)

// Datapath is what Tables needs of package datapath, which slots mean.
type Datapath interface {
	SetWorkload(w datapath.Workload) error
	DeleteWorkload(cookie uint64) error
	Publish(slot uint32, t datapath.Table) error
	Withdraw(slot uint32) error
	Move(cookie uint64, slot uint32) error
}

// Generation is one of a table, complete.
type Generation struct {
	datapath.Table

	Workloads []string // UIDs
}

// Tables is the ledger. Its methods may be called concurrently.
type Tables struct {
	datapath Datapath
	log      *slog.Logger

	mu     sync.Mutex
	tables map[uint32]datapath.TableStatus // by slot
	// slots are those of the tables that the connected proxy published, by number.
	// The other tables are an earlier one's.
	slots map[uint32]uint32
	of    map[string]uint32 // slot by UID, of workloads that are not in slot 0; enrolled or not
	// enrolled are the cookies of enrolled workloads, by UID.
	enrolled map[string]uint64
	// inherited are the slots of workloads that an earlier agent enrolled, by cookie,
	// until somebody says whose they are.
	inherited map[uint64]uint32

	refused     map[string]error // why the last generation is not in force, by UID of enrolled workloads
	refusedRest error            // the same of table 0
}

// New makes the ledger of a datapath, in which something is in force already.
func New(d Datapath, found datapath.Steering, log *slog.Logger) *Tables {
	t := &Tables{
		datapath: d, log: log, tables: map[uint32]datapath.TableStatus{}, slots: map[uint32]uint32{},
		of: map[string]uint32{}, enrolled: map[string]uint64{}, inherited: map[uint64]uint32{},
		refused: map[string]error{},
	}
	maps.Copy(t.tables, found.Tables)
	for cookie, slot := range found.Workloads {
		if _, ok := t.tables[slot]; ok && slot != 0 {
			t.inherited[cookie] = slot
		}
	}
	return t
}

// SetWorkload enrols a workload, or changes an enrolled one, with its table: the one
// that names it, or that an earlier agent left it in.
func (t *Tables) SetWorkload(uid string, w datapath.Workload) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	slot, named := t.of[uid]
	if !named {
		slot = t.inherited[w.Cookie]
	}
	w.Slot = slot
	if err := t.datapath.SetWorkload(w); err != nil {
		return err
	}
	delete(t.inherited, w.Cookie)
	t.enrolled[uid] = w.Cookie
	t.note(uid, slot)
	return nil
}

// DeleteWorkload takes a workload out of the datapath. If it comes back it has the
// table that it had, or that names it then.
func (t *Tables) DeleteWorkload(cookie uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.datapath.DeleteWorkload(cookie); err != nil {
		return err
	}
	delete(t.inherited, cookie)
	maps.DeleteFunc(t.enrolled, func(uid string, c uint64) bool {
		if c == cookie {
			delete(t.refused, uid)
		}
		return c == cookie
	})
	return nil
}

// Begin says that a proxy connected, which numbers its tables anew.
func (t *Tables) Begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.slots)
	clear(t.refused)
	t.refusedRest = nil
}

// Put puts a generation in force. On an error the table's earlier one stays.
func (t *Tables) Put(g *Generation) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.put(g)
	t.judged(g, err)
	return err
}

func (t *Tables) put(g *Generation) error {
	if g.Number == 0 {
		if err := t.publish(0, g); err != nil {
			return err
		}
		t.slots[0] = 0
		return t.retire()
	}
	slot, known := t.slots[g.Number]
	switch gone := len(g.Workloads)+len(g.Destinations) == 0; {
	case gone && known:
		return t.giveBack(g.Number, slot)
	case gone:
		return nil
	case !known:
		var err error
		if slot, err = t.free(); err != nil {
			return err
		}
	}
	if err := t.publish(slot, g); err != nil {
		return err
	}
	t.slots[g.Number] = slot
	return t.join(slot, g.Workloads)
}

// publish fills a slot, after those have left it whom the generation does not name.
func (t *Tables) publish(slot uint32, g *Generation) error {
	if err := t.check(slot, g); err != nil {
		return err
	}
	left, err := t.leave(slot, g.Workloads)
	if err == nil {
		err = t.datapath.Publish(slot, g.Table)
	}
	if err != nil {
		return errors.Join(err, t.join(slot, left))
	}
	t.tables[slot] = datapath.TableStatus{
		Number: g.Number, Generation: g.Generation, Unknown: g.Unknown, Entries: len(g.Destinations),
	}
	return nil
}

// leave moves the workloads of a slot that stay does not name to slot 0.
func (t *Tables) leave(slot uint32, stay []string) (left []string, err error) {
	if slot == 0 {
		return nil, nil
	}
	stays := make(map[string]bool, len(stay))
	for _, uid := range stay {
		stays[uid] = true
	}
	for uid, at := range t.of {
		if at == slot && !stays[uid] {
			left = append(left, uid)
		}
	}
	return left, t.join(0, left)
}

// join moves workloads to a slot that is filled; those that are not enrolled go there
// when they are.
func (t *Tables) join(slot uint32, uids []string) error {
	var errs []error
	for _, uid := range uids {
		if t.of[uid] == slot {
			continue
		}
		if cookie, ok := t.enrolled[uid]; ok {
			if err := t.datapath.Move(cookie, slot); err != nil {
				errs = append(errs, fmt.Errorf("steer workload %s: %w", uid, err))
				continue
			}
		}
		t.note(uid, slot)
	}
	return errors.Join(errs...)
}

func (t *Tables) note(uid string, slot uint32) {
	if slot == 0 {
		delete(t.of, uid)
	} else {
		t.of[uid] = slot
	}
}

// giveBack empties the slot of a table of the connected proxy.
func (t *Tables) giveBack(number, slot uint32) error {
	if err := t.empty(slot); err != nil {
		return err
	}
	delete(t.slots, number)
	return nil
}

// empty takes everybody out of a slot, then its table.
func (t *Tables) empty(slot uint32) error {
	if _, err := t.leave(slot, nil); err != nil {
		return err
	}
	for cookie, at := range t.inherited {
		if at != slot {
			continue
		}
		if err := t.datapath.Move(cookie, 0); err != nil {
			return err
		}
		delete(t.inherited, cookie)
	}
	if err := t.datapath.Withdraw(slot); err != nil {
		return err
	}
	delete(t.tables, slot)
	return nil
}

// retire empties the slots of earlier proxies.
func (t *Tables) retire() error {
	var errs []error
	for _, slot := range t.earlier() {
		number := t.tables[slot].Number
		if err := t.empty(slot); err != nil {
			errs = append(errs, fmt.Errorf("take table %d of an earlier proxy out: %w", number, err))
			continue
		}
		t.log.Info("table of an earlier proxy is gone", "table", number)
	}
	return errors.Join(errs...)
}

// earlier are the slots of tables that the connected proxy did not publish.
func (t *Tables) earlier() []uint32 {
	ours := make(map[uint32]bool, len(t.slots))
	for _, slot := range t.slots {
		ours[slot] = true
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(t.tables)), func(slot uint32) bool { return slot == 0 || ours[slot] })
}

// free finds a slot without a table.
func (t *Tables) free() (uint32, error) {
	for slot := uint32(1); slot < datapath.MaxTables; slot++ {
		if _, taken := t.tables[slot]; !taken {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("find room for a table: there are %d already", datapath.MaxTables-1)
}
