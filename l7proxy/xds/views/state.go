package views

import (
	"maps"
	"slices"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds"
	"github.com/dubway/dubway/l7proxy/xds/ads"
)

// View is how things are with one view.
type View struct {
	ads.State

	Key      string   // "namespace/serviceaccount label=value ..."
	Node     string   // as whom it is asked for
	Pods     []string // the UIDs of those that have it
	Snapshot *snapshot.Snapshot
	Rejected int // resources of it that are rejected at present
	Store    *xds.Store
}

// Views tells of all views, by their keys.
func (s *Set) Views() []View {
	var list []View
	for _, v := range s.sorted() {
		s.mu.Lock()
		pods := slices.Sorted(maps.Keys(v.pods))
		s.mu.Unlock()
		list = append(list, View{
			State: v.State(), Key: v.key, Node: v.Node(), Pods: pods, Snapshot: v.Snapshot(), Rejected: len(v.Rejections()), Store: v.Store,
		})
	}
	return list
}

// Away tells whether the control plane was asked for a pod's view in vain.
func (s *Set) Away(uid string) bool {
	s.mu.Lock()
	v := s.byUID[uid]
	s.mu.Unlock()
	if v == nil {
		return false
	}
	state := v.State()
	return !state.Connected && state.Reason != ""
}

// Rejections returns what is rejected of all views; what several are told, once.
func (s *Set) Rejections() []xds.Rejection {
	var list []xds.Rejection
	seen := make(map[[3]string]bool)
	for _, v := range s.sorted() {
		for _, r := range v.Rejections() {
			k := [3]string{r.Kind + " " + r.Name, r.Field, r.Reason}
			if !seen[k] {
				seen[k] = true
				list = append(list, r)
			}
		}
	}
	return list
}

// Totals are the counters of all views together, those that are no more included.
type Totals struct {
	Views, Connected             int // at present
	Updates, Refused, Reconnects uint64
	Rejections                   uint64
}

func (t *Totals) add(v *view) {
	state, stats := v.State(), v.Stats()
	t.Views++
	if state.Connected {
		t.Connected++
	}
	t.Updates += state.Updates
	t.Refused += state.Refused
	t.Reconnects += state.Reconnects
	t.Rejections += stats.Rejections
}

// Totals returns them.
func (s *Set) Totals() Totals {
	s.mu.Lock()
	sum := s.ended
	s.mu.Unlock()
	for _, v := range s.sorted() {
		sum.add(v)
	}
	return sum
}
