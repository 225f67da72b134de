package lanetest_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/lanetest"
)

// epoch is a configuration, from when it may have been in force until the next one certainly
// was.
type epoch struct {
	weights        []int
	begin, applied time.Time
}

// swap puts random configurations in force, one after another, until stop.
func (n *node) swap(seed uint64, stop <-chan struct{}) []epoch {
	n.T.Helper()
	rnd := rand.New(rand.NewPCG(seed, 3))
	now := time.Now()
	all := []epoch{{weights: []int{1, 1, 0}, applied: now}}
	for {
		select {
		case <-stop:
			return all
		case <-time.After(time.Duration(rnd.IntN(200)) * time.Millisecond):
		}
		next := epoch{weights: []int{rnd.IntN(4), rnd.IntN(3), rnd.IntN(2)}}
		if slices.Max(next.weights) == 0 || slices.Equal(next.weights, all[len(all)-1].weights) {
			continue
		}
		before, err := n.ProxyStatus(n.Ctx)
		n.Must(err)
		next.begin = time.Now()
		n.weigh(next.weights...)
		n.Eventually("the next configuration", func() bool {
			s, err := n.ProxyStatus(n.Ctx)
			return err == nil && s.Generation > before.Generation
		})
		next.applied = time.Now()
		all = append(all, next)
	}
}

// allowed tells whether a call was answered by a provider that a configuration allows which
// was in force at some time between its making and its answer.
func allowed(all []epoch, c lanetest.Trace) bool {
	for i := range all {
		ends := int64(1<<63 - 1)
		if i+1 < len(all) {
			ends = all[i+1].applied.UnixNano()
		}
		begins := int64(0)
		if i > 0 {
			begins = all[i].begin.UnixNano()
		}
		if begins <= c.Got && ends >= c.Sent && all[i].weights[c.By] > 0 {
			return true
		}
	}
	return false
}

// around are the configurations before and behind a call.
func around(all []epoch, c lanetest.Trace) string {
	var b strings.Builder
	for _, e := range all {
		if d := e.applied.Sub(time.Unix(0, c.Sent)); d > -time.Second && d < time.Second/2 {
			fmt.Fprintf(&b, "%v from %v to %v; ", e.weights, e.begin.Sub(time.Unix(0, c.Sent)), d)
		}
	}
	return b.String()
}

// TestSwaps: random configurations follow one another under load. No call reaches a provider
// that was allowed neither by the one before nor by the one behind it.
func TestSwaps(t *testing.T) {
	n := newNode(t, 3, 2<<10, 4*time.Minute*time.Duration(*soak))
	k := lanetest.Consumer{
		Target: vip4 + ":20880", Conns: 4, Calls: 40_000 * *soak, Depth: 16, Size: 2 << 10, Lane: 90, Most: 2 << 10,
		Seed: uint64(time.Now().UnixNano()), Traces: filepath.Join(t.TempDir(), "traces"),
	}
	t.Logf("seed %d", k.Seed)
	stop, done := make(chan struct{}), make(chan []epoch, 1)
	go func() { done <- n.swap(k.Seed, stop) }()
	r := n.consume(k)()
	close(stop)
	all := <-done
	n.judge(k, r)
	text, err := os.ReadFile(k.Traces)
	n.Must(err)
	var traces []lanetest.Trace
	n.Must(json.Unmarshal(text, &traces))
	strays := 0
	for _, c := range traces {
		if !allowed(all, c) {
			if strays++; strays < 20 {
				t.Errorf("a call of %v, answered %v later, was provider %d's: %s", time.Unix(0, c.Sent), time.Duration(c.Got-c.Sent), c.By, around(all, c))
			}
		}
	}
	took := n.took()
	t.Logf("%d calls, %d in the lane, %d configurations, %d strays", r.Answered, took, len(all), strays)
	if len(all) < 10 || took < r.Answered/20 || strays > 0 || len(traces) != r.Answered {
		t.Errorf("%d configurations, %d calls in the lane, %d strays, %d traces of %d", len(all), took, strays, len(traces), r.Answered)
	}
}
