package life

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

// tell says what the lane is made of, where that has changed.
func (l *Lane) tell() {
	k := l.node.Keeper
	l.node.Mu.Lock()
	now := told{l.node.Round, l.ends}
	current := l.Book == l.node.Book
	l.node.Mu.Unlock()
	if k == nil || !current || now == l.told {
		return
	}
	what := keeper.Lane{
		Number: l.Number, Workload: l.Way.Key.Workload, Destination: l.Way.Key.Original,
		Consumer: l.consumer.Source.Remote, Conn: l.consumer.Conn,
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
		l.node.Logger.Warn("a lane would not outlive the proxy", "lane", l.Number, "error", err)
	}
}

// letGo has the Keeper's duplicates closed.
func (l *Lane) letGo() {
	if l.node.Keeper != nil && l.told != (told{}) {
		l.node.Keeper.LetGo(l.Number)
	}
}
