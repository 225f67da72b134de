package plan

import (
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// moded gives the rig's workload a mode, before its first request.
func moded(t *testing.T, r *rig, word string) *mode.Table {
	t.Helper()
	table := new(mode.Table)
	if err := table.Put(&mode.Workload{UID: "shop/consumer", Namespace: "shop", Name: "consumer", Labels: map[string]string{mode.Key: word}}); err != nil {
		t.Fatal(err)
	}
	r.env.Modes = table
	r.mode = table.Of("shop/consumer")
	return table
}

// counted returns the total of a result.
func (r *rig) counted(result string) (total uint64) {
	for _, c := range r.env.Policies.Tally.All() {
		if c.Labels.Result == result {
			total += c.Total
		}
	}
	return total
}

// TestObserve: what would be refused passes, and is told apart from what would not be;
// nothing is changed, copied, cut short or sent again.
func TestObserve(t *testing.T) {
	r := newRig(t, vip, pod1)
	table := moded(t, r, "observe")
	for _, l := range r.snap.Listeners {
		l.RBAC = []*snapshot.RBAC{denying("method", "drop")}
		l.Limits = []*snapshot.Limit{{
			Name: "limit", Bucket: &snapshot.Bucket{Max: 2, Fill: 1, Interval: time.Hour}, Always: true, Enabled: 1e6, Enforced: 1e6,
		}}
	}
	a := &r.snap.Routes["r"].VirtualHosts[0].Routes[0].Action
	a.Timeout, a.Retry, a.Mirrors = time.Second, &snapshot.Retry{Num: 3}, []snapshot.Mirror{{Cluster: "c", Fraction: snapshot.Million}}
	a.Edits = []snapshot.Edit{{Name: "x", Value: []snapshot.Piece{{Text: "y"}}}}
	a.Answers = a.Edits
	ask := func(method string) (*rpc.Call, rpc.Why) {
		t.Helper()
		h, body := attached(method, "")
		e, why := r.Edge(h, body)
		if r.mode.Mode() == mode.Observe && (why != rpc.WhyNone || r.Limit() != 0 || len(r.Mirrors()) > 0 || len(r.edits) > 0 || e.Answers != nil || e.Retry != nil) {
			t.Errorf("%s: %q, %s, %d mirrors, %d edits, retry %v", method, why, r.Limit(), len(r.Mirrors()), len(r.edits), e.Retry)
		}
		return e.Remote, why
	}
	for i, want := range []struct {
		method string
		would  rpc.Why
		by     string
	}{{"drop", rpc.WhyDenied, "p"}, {"drop", rpc.WhyDenied, "p"}, {"find", 0, ""}, {"find", 0, ""}, {"find", rpc.WhyLimited, "limit"}} {
		if c, _ := ask(want.method); c.Would != want.would || c.WouldBy != want.by {
			t.Errorf("request %d: %q by %q, want %q by %q", i, c.Would, c.WouldBy, want.would, want.by)
		}
	}
	if d, l, n := r.counted("would_deny"), r.counted("would_limit"), r.counted("denied")+r.counted("limited"); d != 2 || l != 1 || n != 0 {
		t.Errorf("would deny %d, would limit %d, enforced %d", d, l, n)
	}
	if _, err := table.Say("shop/consumer", "enforce"); err != nil {
		t.Fatal(err)
	}
	if _, why := ask("drop"); why != rpc.WhyDenied || r.counted("denied") != 1 {
		t.Errorf("enforced at once: %q", why)
	}
	if _, err := table.Say("shop/consumer", "default"); err != nil {
		t.Fatal(err)
	}
	h, body := attached("drop", "")
	if n := testing.AllocsPerRun(100, func() { r.Edge(h, body) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestObserveInbound: a provider's mode is its own, and not its consumer's.
func TestObserveInbound(t *testing.T) {
	r := newRig(t, pod1, pod1)
	r.provide(false, &snapshot.Inbound{Workload: "shop/provider", Plain: &snapshot.Listener{RBAC: []*snapshot.RBAC{denying("method", "drop")}}})
	moded(t, r, "observe")
	h, body := attached("drop", "")
	if e, why := r.Edge(h, body); why != rpc.WhyNone || e.Remote.Would != rpc.WhyDenied {
		t.Errorf("%q, would %q", why, e.Remote.Would)
	}
}

func BenchmarkObserved(b *testing.B) {
	for _, word := range []string{"without", "enforce", "observe"} {
		b.Run(word, func(b *testing.B) {
			r := newRig(new(testing.T), vip, pod1)
			if word != "without" {
				table := new(mode.Table)
				if err := table.Put(&mode.Workload{UID: "1", Labels: map[string]string{mode.Key: word}}); err != nil {
					b.Fatal(err)
				}
				r.mode = table.Of("1")
				for _, l := range r.snap.Listeners {
					l.RBAC = []*snapshot.RBAC{denying("method", "drop")}
					l.Limits = []*snapshot.Limit{{
						Name: "limit", Bucket: &snapshot.Bucket{Max: 1 << 31, Fill: 1 << 31, Interval: time.Second},
						Always: true, Enabled: 1e6, Enforced: 1e6,
					}}
				}
			}
			h, body := attached("find", "gold")
			for b.Loop() {
				r.Edge(h, body)
			}
		})
	}
}
