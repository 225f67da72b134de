package lane

import (
	"cmp"
	"slices"

	"github.com/dubway/dubway/internal/admin"
)

// List tells of the lanes, by number.
func (ls *Lanes) List() []admin.LaneStatus {
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	all := make([]admin.LaneStatus, 0, len(ls.live))
	for l := range ls.live {
		all = append(all, l.Status())
	}
	slices.SortFunc(all, func(a, b admin.LaneStatus) int { return cmp.Compare(a.Lane, b.Lane) })
	return all
}

// Names lists what was learned, by consumer, destination, interface and method. Whose the
// consumer is, and counts, the caller fills in.
func (ls *Lanes) Names() []admin.LearnedName {
	if ls.Observer.On() {
		return ls.Observer.Names()
	}
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	if ls.node.Book == nil {
		return nil
	}
	return ls.node.Book.List()
}
