package lane

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/lane"
)

// List tells of the lanes, by number.
func (ls *Lanes) List() []admin.LaneStatus {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	all := make([]admin.LaneStatus, 0, len(ls.live))
	for l := range ls.live {
		all = append(all, l.status())
	}
	slices.SortFunc(all, func(a, b admin.LaneStatus) int { return cmp.Compare(a.Lane, b.Lane) })
	return all
}

// status is what the lane looks like. Lanes.mu is held.
func (l *Lane) status() admin.LaneStatus {
	source := l.ride.source
	s := admin.LaneStatus{
		Lane: l.number, Workload: source.Workload.UID, Consumer: source.Workload.Namespace + "/" + source.Workload.Name,
		Address: source.Remote.String(), Destination: source.Original.String(), State: admin.LaneOpen, Since: l.since,
		Providers: []admin.LaneEnd{},
	}
	switch {
	case l.leaving:
		s.State, s.Reason = admin.LaneClosing, l.why.String()
	case l.since.IsZero():
		s.State = admin.LaneOpening
		return s // what its memory holds is of one before
	}
	for _, e := range l.ends {
		if e != nil {
			s.Providers = append(s.Providers, admin.LaneEnd{Address: e.address.String(), Open: !e.shut})
		}
	}
	l.book.Memory.InFlight(l.number, func(uint64, lane.Flight) bool {
		s.InFlight++
		return true
	})
	s.Requests, s.Answers = atomic.LoadUint64(&l.at.Requested), atomic.LoadUint64(&l.at.Answered)
	s.Slow, s.Returned = atomic.LoadUint64(&l.at.Slow), atomic.LoadUint64(&l.at.Returned)
	s.Behind, s.Full = atomic.LoadUint64(&l.at.Behind), atomic.LoadUint64(&l.at.Full)
	return s
}

// Names lists what was learned, by consumer, destination, interface and method. Whose the
// consumer is, and counts, the caller fills in.
func (ls *Lanes) Names() []admin.LearnedName {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.book == nil {
		return nil
	}
	return ls.book.List()
}
