package lane

import (
	"cmp"
	"slices"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/lane/learned"
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
// consumer is the caller fills in.
func (ls *Lanes) Names(count learned.Ways) []admin.LearnedName {
	if ls.Observer.On() {
		return ls.Observer.Names(count)
	}
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	if ls.node.Book == nil {
		return nil
	}
	return ls.node.Book.List(count)
}
