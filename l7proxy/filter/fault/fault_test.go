package fault

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/condition"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

const million = 1_000_000

func subject(cluster string, random uint64) *Subject {
	values := condition.ValuesOf(&rpc.Request{Protocol: rpc.ProtocolDubbo, Interface: "org.x.S", Method: "echo"})
	return &Subject{Values: &values, Cluster: cluster, Workload: "pod", Random: random}
}

func TestOf(t *testing.T) {
	a := &snapshot.Abort{Status: 60}
	method := func(value string) []snapshot.HeaderMatch {
		return []snapshot.HeaderMatch{{Name: "method", Value: value}}
	}
	for _, tt := range []struct {
		name  string
		fault snapshot.Fault
		delay time.Duration
		abort *snapshot.Abort
	}{
		{"nothing", snapshot.Fault{}, 0, nil},
		{"none of all", snapshot.Fault{Delay: time.Second, Abort: a}, 0, nil},
		{"a delay", snapshot.Fault{Delay: time.Second, Delayed: million, Abort: a}, time.Second, nil},
		{"an abort", snapshot.Fault{Delay: time.Second, Abort: a, Aborted: million}, 0, a},
		{"both", snapshot.Fault{Delay: time.Second, Delayed: million, Abort: a, Aborted: million}, time.Second, a},
		{"its cluster", snapshot.Fault{Abort: a, Aborted: million, Cluster: "c"}, 0, a},
		{"another cluster", snapshot.Fault{Delay: time.Second, Delayed: million, Abort: a, Aborted: million, Cluster: "d"}, 0, nil},
		{"its header", snapshot.Fault{Abort: a, Aborted: million, Headers: method("echo")}, 0, a},
		{"one of two headers", snapshot.Fault{Abort: a, Aborted: million, Headers: append(method("echo"), method("drop")...)}, 0, nil},
	} {
		got := Of(&tt.fault, subject("c", rand.Uint64()))
		if got.Delay != tt.delay || got.Abort != tt.abort || (got.Filter != nil) != (tt.delay > 0 || tt.abort != nil) {
			t.Errorf("%s: %+v", tt.name, got)
		}
		if idle := tt.fault.Idle(); idle && got.Filter != nil {
			t.Errorf("%s: an idle filter does something", tt.name)
		}
	}
	own := subject("c", 0)
	own.Abort = &snapshot.Abort{Status: 70}
	if got := Of(&snapshot.Fault{Abort: a, Aborted: million}, own); got.Abort != own.Abort {
		t.Errorf("the route's abort is not taken: %+v", got)
	}
	if got := Of(&snapshot.Fault{Abort: a}, own); got.Abort != nil {
		t.Errorf("the route aborts what no filter does: %+v", got)
	}
}

// TestShares draws often enough that a share that is 2 % off fails in one of a million
// runs at most, and sees that delay and abort are drawn apart.
func TestShares(t *testing.T) {
	const n = 200_000
	f := &snapshot.Fault{Delay: time.Second, Delayed: million / 4, Abort: &snapshot.Abort{}, Aborted: million / 2}
	var delays, aborts, both float64
	random := rand.New(rand.NewPCG(1, 2))
	for range n {
		in := Of(f, subject("", random.Uint64()))
		if in.Delay > 0 {
			delays++
		}
		if in.Abort != nil {
			aborts++
		}
		if in.Delay > 0 && in.Abort != nil {
			both++
		}
	}
	for what, of := range map[string][2]float64{"delays": {delays, n / 4}, "aborts": {aborts, n / 2}, "both": {both, n / 8}} {
		if math.Abs(of[0]-of[1]) > 5*math.Sqrt(of[1]) {
			t.Errorf("%.0f %s of %d, want about %.0f", of[0], what, n, of[1])
		}
	}
}

func TestActive(t *testing.T) {
	var a Active
	f, same, other := &snapshot.Fault{Name: "f", Most: 2}, &snapshot.Fault{Name: "f", Most: 1}, &snapshot.Fault{Name: "g", Most: 1}
	if a.Full("pod", f) || !a.Begin("pod", f) || a.Full("pod", f) || !a.Begin("pod", f) || !a.Full("pod", f) || a.Begin("pod", f) {
		t.Error("two may be delayed")
	}
	if !a.Full("pod", same) || a.Full("pod", other) || a.Full("another", f) || !a.Begin("another", f) || !a.Begin("pod", other) {
		t.Error("a filter's name and a workload have a number of their own")
	}
	a.End("pod", f)
	if a.Full("pod", f) || !a.Full("pod", same) {
		t.Error("one is left")
	}
	a.End("pod", f)
	a.End("another", f)
	a.End("pod", other)
	if len(a.by) != 0 {
		t.Errorf("%v is left of nothing", a.by)
	}
	if !a.Full("pod", &snapshot.Fault{Name: "f"}) {
		t.Error("a filter that allows none is full")
	}
}
