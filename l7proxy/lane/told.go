package lane

import (
	"errors"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane/keeper"
)

// Keeper keeps what a lane is made of, so that it outlives the proxy. It is a
// *keeper.Keeper.
type Keeper interface {
	Keep(l *keeper.Lane) error
	LetGo(number uint32)
}

var _ Keeper = (*keeper.Keeper)(nil)

// told is what the Keeper knows of a lane.
type told struct {
	round int
	ends  [lane.Ends]*end
}

// TellAll says that another agent is there, which has none of the lanes.
func (ls *Lanes) TellAll() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.round++
	for l := range ls.live {
		l.Nudge()
	}
}

// tell says what the lane is made of, where that has changed.
func (l *Lane) tell() {
	k := l.ls.opts.Keeper
	l.ls.mu.Lock()
	now := told{l.ls.round, l.ends}
	current := l.book == l.ls.book
	l.ls.mu.Unlock()
	if k == nil || !current || now == l.told {
		return
	}
	what := keeper.Lane{
		Number: l.number, Workload: l.way.Key.Workload, Destination: l.way.Key.Original,
		Consumer: l.ride.source.Remote, Conn: l.ride.conn,
	}
	for _, e := range now.ends {
		if e != nil {
			what.Ends = append(what.Ends, keeper.End{Number: e.number, Address: e.address, Conn: e.conn})
		}
	}
	switch err := k.Keep(&what); {
	case err == nil:
		l.told = now
	case !errors.Is(err, handoff.ErrNotConnected): // whoever comes is told of all
		l.ls.opts.Logger.Warn("a lane would not outlive the proxy", "lane", l.number, "error", err)
	}
}

// letGo has the Keeper's duplicates closed.
func (l *Lane) letGo() {
	if l.ls.opts.Keeper != nil && l.told != (told{}) {
		l.ls.opts.Keeper.LetGo(l.number)
	}
}
