// Package mode says what the mesh does to a workload: whether its policies are
// enforced, only observed, or the workload is left alone. A workload's annotation or
// label says so, or an operator, for as long as the proxy runs. It acts on nothing: planners and
// connections ask.
package mode

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Key is the annotation of a workload that names its mode, and the label, which holds
// where there is no such annotation.
const Key = "dubway.io/mode"

// Mode is what the mesh does to a workload.
type Mode uint8

// The modes.
const (
	Enforce Mode = iota // the default
	Observe             // policies are judged and counted; no byte is changed, nothing refused
	Off                 // connections are passed on as they are
)

// Default is the word with which an operator takes back what he said.
const Default = "default"

// String returns the mode's word.
func (m Mode) String() string {
	switch m {
	case Observe:
		return "observe"
	case Off:
		return "off"
	case Enforce:
	}
	return "enforce"
}

// Parse returns the mode of a word.
func Parse(word string) (Mode, error) {
	for _, m := range []Mode{Enforce, Observe, Off} {
		if word == m.String() {
			return m, nil
		}
	}
	return Enforce, fmt.Errorf("parse mode %q: want enforce, observe or off", word)
}

// Cell is the mode of one workload. Safe for concurrent use.
type Cell struct{ mode atomic.Uint32 }

// Mode returns it; that of a nil Cell is Enforce.
func (c *Cell) Mode() Mode {
	if c == nil {
		return Enforce
	}
	return Mode(c.mode.Load())
}

// Table has the modes of all workloads. Its zero value has none. Safe for concurrent
// use.
type Table struct {
	mu   sync.Mutex
	pods map[string]*pod
	said map[string]Mode // by operators: "namespace/pod", or "namespace/*"
}

type pod struct {
	namespace, name string
	mode            Mode   // its own
	by              string // what of it says so; "": nothing
	cell            *Cell
}

// Workload is one as its source describes it.
type Workload struct {
	UID, Namespace, Name string
	Annotations, Labels  map[string]string
}

// own returns what a workload says of its mode, and where: its annotation goes before
// its label. A value that is no mode is an error, and means Enforce.
func (w *Workload) own() (m Mode, by string, err error) {
	for _, place := range []struct {
		name   string
		values map[string]string
	}{{"annotation", w.Annotations}, {"label", w.Labels}} {
		if word := place.values[Key]; word != "" {
			if m, err = Parse(word); err != nil {
				return Enforce, "", fmt.Errorf("read %s %s: %w", place.name, Key, err)
			}
			return m, place.name + " " + Key, nil
		}
	}
	return Enforce, "", nil
}

// Put adds a workload, or changes one. A mode that is none is an error, and means
// Enforce.
func (t *Table) Put(w *Workload) error {
	m, by, err := w.own()
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &pod{namespace: w.Namespace, name: w.Name, mode: m, by: by, cell: new(Cell)}
	if old := t.pods[w.UID]; old != nil {
		p.cell = old.cell // connections hold it
	}
	if t.pods == nil {
		t.pods = make(map[string]*pod)
	}
	t.pods[w.UID] = p
	t.settle(p)
	return err
}

// Forget removes a workload. What was said of its name stays.
func (t *Table) Forget(uid string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pods, uid)
}

// Of returns the cell of a workload, which follows every change; nil if it is unknown.
func (t *Table) Of(uid string) *Cell {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.pods[uid]; w != nil {
		return w.cell
	}
	return nil
}

// Say sets the mode of "namespace/pod", or of "namespace/*", whoever is or will be
// there, over what they say themselves; Default takes it back. What is said of a pod goes before
// what is said of its namespace. It returns the UIDs that it concerns.
func (t *Table) Say(who, word string) ([]string, error) {
	namespace, name, ok := strings.Cut(who, "/")
	if !ok || namespace == "" || name == "" {
		return nil, fmt.Errorf("read workload %q: want NAMESPACE/POD or NAMESPACE/*", who)
	}
	m := Enforce
	if word != Default {
		var err error
		if m, err = Parse(word); err != nil {
			return nil, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.said == nil {
		t.said = make(map[string]Mode)
	}
	if t.said[who] = m; word == Default {
		delete(t.said, who)
	}
	var uids []string
	for uid, w := range t.pods {
		if w.namespace == namespace && (w.name == name || name == "*") {
			t.settle(w)
			uids = append(uids, uid)
		}
	}
	slices.Sort(uids)
	return uids, nil
}

// settle works a workload's mode out. The caller locks.
func (t *Table) settle(w *pod) {
	m, _ := t.mode(w)
	w.cell.mode.Store(uint32(m))
}

// mode returns a workload's mode, and who says so.
func (t *Table) mode(w *pod) (m Mode, by string) {
	for _, who := range []string{w.namespace + "/" + w.name, w.namespace + "/*"} {
		if m, ok := t.said[who]; ok {
			return m, "dubwayctl mode " + who
		}
	}
	return w.mode, w.by
}

// Entry is one workload's mode.
type Entry struct {
	UID, Namespace, Name string
	Mode                 Mode
	By                   string // who says so; "" for the default
}

// All returns the modes, ordered by namespace and name.
func (t *Table) All() []Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Entry, 0, len(t.pods))
	for uid, w := range t.pods {
		m, by := t.mode(w)
		list = append(list, Entry{UID: uid, Namespace: w.namespace, Name: w.name, Mode: m, By: by})
	}
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	return list
}
