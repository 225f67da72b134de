package recent

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestBound: the list has a bound, the total has none, and what is quiet makes room.
func TestBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l List[int]
		for i := range MaxListed + 100 {
			l.Count(i).Add()
		}
		if len(l.All()) != MaxListed || l.Total() != MaxListed+100 {
			t.Errorf("%d listed, %d counted", len(l.All()), l.Total())
		}
		time.Sleep(quietAfter / 2)
		l.Count(0).Add()
		if got := l.All()[0]; got.Key != 0 || got.Count != 2 {
			t.Errorf("the latest is %+v", got)
		}
		time.Sleep(quietAfter/2 + time.Second)
		l.Count(MaxListed).Add()
		if got := l.All(); len(got) != 2 || got[0].Key != MaxListed || got[1].Key != 0 {
			t.Errorf("after the others were quiet: %+v", got)
		}
		var none *Count
		none.Add()
	})
}
