package tally_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/dubway/dubway/l7proxy/filter/limit"
	"github.com/dubway/dubway/l7proxy/filter/rbac"
	"github.com/dubway/dubway/l7proxy/filter/tally"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestTally: counters are shared by what has the same labels, and by all goroutines.
func TestTally(t *testing.T) {
	rules := func() *snapshot.Rules {
		return &snapshot.Rules{Action: snapshot.RBACDeny, Prefix: "p", Policies: []snapshot.RBACPolicy{{Name: "a"}, {Name: "b"}}}
	}
	first, second, shadow := rules(), rules(), rules() // second: as in a snapshot's successor
	l := &snapshot.Limit{Name: "limit", Prefix: "x"}
	var c tally.Tally
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 1000 {
				c.Rules("f", first, false, rbac.Decision{Policy: 1, Denied: true}).Add()
				c.Rules("f", second, false, rbac.Decision{Policy: 1, Denied: true}).Add()
				c.Rules("f", shadow, true, rbac.Decision{Policy: rbac.None}).Add()
				c.Limit(l, limit.Limited).Add()
				c.Fault(&snapshot.Fault{Name: "fault"}, tally.Aborted).Add()
			}
		})
	}
	group.Wait()
	if c.Limit(l, limit.Skipped) != nil {
		t.Error("what a limit skips is counted")
	}
	logs := &snapshot.Rules{Action: snapshot.RBACLog}
	if c.Rules("f", logs, false, rbac.Decision{Policy: rbac.None}) != nil {
		t.Error("what a LOG does not log is counted")
	}
	got := make(map[string]uint64)
	for _, one := range c.All() {
		if one.Total > 0 {
			got[fmt.Sprintf("%+v", one.Labels)] = one.Total
		}
	}
	want := map[string]uint64{
		"{Kind:0 Filter:f Prefix:p Action:deny Mode:enforced Policy:b Result:denied}": 8000,
		"{Kind:0 Filter:f Prefix:p Action:deny Mode:shadow Policy: Result:allowed}":   4000,
		"{Kind:1 Filter:limit Prefix:x Action: Mode: Policy: Result:limited}":         4000,
		"{Kind:2 Filter:fault Prefix: Action: Mode: Policy: Result:aborted}":          4000,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}
