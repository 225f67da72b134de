package life

import (
	"sync/atomic"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/lane"
)

// Status is what the lane looks like. Node.Mu is held.
func (l *Lane) Status() admin.LaneStatus {
	source := l.consumer.Source
	s := admin.LaneStatus{
		Lane: l.Number, Workload: source.Workload.UID, Consumer: source.Workload.Namespace + "/" + source.Workload.Name,
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
	l.Book.Memory.InFlight(l.Number, func(uint64, lane.Flight) bool {
		s.InFlight++
		return true
	})
	s.Requests, s.Answers = atomic.LoadUint64(&l.at.Requested), atomic.LoadUint64(&l.at.Answered)
	s.Slow, s.Returned = atomic.LoadUint64(&l.at.Slow), atomic.LoadUint64(&l.at.Returned)
	s.Behind, s.Full, s.Scarce = atomic.LoadUint64(&l.at.Behind), atomic.LoadUint64(&l.at.Full), atomic.LoadUint64(&l.at.Scarce)
	return s
}
