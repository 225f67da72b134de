package lane_test

import (
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/internal/lane"
)

// choice is a set of endpoints of which some are elsewhere, and what each should get.
type choice struct {
	policy uint8
	here   []uint64 // weights of ends
	there  []uint64
	draws  int
	active []uint64 // requests in flight, of both; in turn and at random nobody asks
	spared int      // so many of the last ones are left alone
}

// parts are what each endpoint gets of all requests, in order, and what is left to the proxy: in
// turn and at random for those elsewhere together.
func (c *choice) parts() (parts []float64, left float64) {
	weights := slices.Concat(c.here, c.there)
	var sum float64
	parts = make([]float64, len(weights))
	switch c.policy {
	case lane.LeastRequest:
		n, rank := float64(len(weights)), 0.0
		order := make([]int, len(weights))
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int { return int(c.active[a]) - int(c.active[b]) })
		for _, i := range order {
			if i < len(weights)-c.spared {
				parts[i] = math.Pow((n-rank)/n, float64(c.draws)) - math.Pow((n-rank-1)/n, float64(c.draws))
				rank++
			}
		}
		return parts, math.Pow(float64(c.spared)/n, float64(c.draws))
	case lane.ByLoad:
		for i, w := range weights {
			part := float64(w) / float64(c.active[i]+1)
			if i >= len(weights)-c.spared {
				part = 0
			}
			parts[i], sum = part, sum+part
		}
		for i := range parts {
			parts[i] /= sum
		}
		return parts, 0
	}
	for _, w := range weights {
		sum += float64(w)
	}
	for i, w := range weights {
		if i < len(c.here) {
			parts[i] = float64(w) / sum
		} else {
			left += float64(w) / sum
		}
	}
	return parts, left
}

// write makes a route's share of it.
func (c *choice) write(r *lane.Route) {
	s := &r.Shares[0]
	*s = lane.Share{UpTo: ^uint32(0), Policy: c.policy, Draws: uint8(c.draws)}
	r.Flags |= lane.Mixed
	if c.policy == lane.LeastRequest || c.policy == lane.ByLoad {
		s.First, s.Count = 5, uint8(len(c.here)+len(c.there))
		for i, w := range slices.Concat(c.here, c.there) {
			at := lane.Candidate{Weight: uint32(w), Active: lanetest.Active(lane.Ends + i), End: lane.Ends}
			if i < len(c.here) {
				at.Active, at.End = lanetest.Active(i), uint8(i)
			}
			if i >= len(c.here)+len(c.there)-c.spared {
				at.Weight = 0
			}
			r.Candidates[5+i] = at
		}
		return
	}
	var here, all uint64
	for i, w := range c.here {
		for range w {
			s.Choices[s.Count] = uint8(i)
			s.Count++
		}
		here += w
	}
	for _, w := range c.there {
		all += w
	}
	s.Beyond = uint32((all << 32) / (here + all))
}

// TestElsewhere: of a cluster with endpoints elsewhere each is drawn as its policy has it, and the
// proxy is told what was drawn for those.
func TestElsewhere(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 3, 64)
	lanetest.Must(t, w.proxy.Open(lane.Logged))
	atomic.StoreUint32(&r.Memory.Budget.Limit, 1_000_000)
	for i, c := range []choice{
		{policy: lane.RoundRobin, here: []uint64{1}, there: []uint64{1}},
		{policy: lane.RoundRobin, here: []uint64{2, 1, 3}, there: []uint64{4, 1}},
		{policy: lane.RoundRobin, here: []uint64{1, 1}, there: []uint64{40, 7, 3}},
		{policy: lane.Random, here: []uint64{1}, there: []uint64{1, 1}},
		{policy: lane.Random, here: []uint64{5, 1, 1}, there: []uint64{2}},
		{policy: lane.LeastRequest, draws: 2, here: []uint64{1}, there: []uint64{1, 1}, active: []uint64{3000, 2000, 4000}},
		{policy: lane.LeastRequest, draws: 2, here: []uint64{1, 1, 1}, there: []uint64{1, 1, 1}, active: []uint64{6000, 5000, 1000, 2000, 4000, 0}, spared: 2},
		{policy: lane.LeastRequest, draws: 5, here: []uint64{1, 1}, there: []uint64{1, 1, 1, 1}, active: []uint64{1000, 5000, 3000, 2000, 4000, 6000}},
		{policy: lane.LeastRequest, draws: 8, here: []uint64{1, 1, 1}, active: []uint64{3000, 2000, 4000}},
		{policy: lane.ByLoad, here: []uint64{3, 1}, there: []uint64{1}, active: []uint64{100_000, 200_000, 50_000}},
		{policy: lane.ByLoad, here: []uint64{1 << 20, 1 << 19}, there: []uint64{1 << 18}, active: []uint64{900_000, 300_000, 150_000}},
		{policy: lane.ByLoad, here: []uint64{7, 2, 2}, there: []uint64{4, 9, 5}, active: []uint64{50_000, 50_000, 90_000, 20_000, 70_000, 0}, spared: 1},
	} {
		t.Run(fmt.Sprint(c.policy, c.here, c.there), func(t *testing.T) { w.elsewhere(t, uint32(2+i), &c) })
	}
}

// elsewhere makes calls by a choice, in a class of its own, and compares what each endpoint gets.
func (w *world) elsewhere(t *testing.T, class uint32, c *choice) {
	clear(w.rig.Memory.Active)
	w.active = [lane.Ends]uint64{}
	for i, n := range c.active {
		if i < len(c.here) {
			w.rig.Memory.Active[lanetest.Active(i)], w.active[i] = n, n // of lanes
		} else {
			w.rig.Memory.Active[lanetest.Active(lane.Ends+i)] = n << 32 // of the proxy
		}
	}
	w.reroute(class, c.write)
	count := func() (got []int64, left int64) {
		got = make([]int64, len(c.here)+len(c.there))
		for i := range got {
			if i < len(c.here) {
				got[i] = w.proxy.Ends[i].Load()
			} else {
				got[i] = w.proxy.There[i].Load()
				left -= got[i]
			}
		}
		left += w.proxy.Led[0].Load()
		for i := range c.here {
			left -= got[i]
		}
		return got, left
	}
	before, leftBefore := count()
	w.send(w.calls(2000, lane.Hessian2, "echo", 50), lanetest.Named("one write each"))
	w.settle()
	got, left := count()
	for i := range got {
		got[i] -= before[i]
	}
	left -= leftBefore
	w.rig.Memory.Log.Read(func(r *lane.Record) { got[r.End]++ })
	parts, rest := c.parts()
	got, parts = append(got, left), append(parts, rest)
	t.Logf("%v of %.3f", got, parts)
	all := left
	for _, n := range got[:len(got)-1] {
		all += n
	}
	if all < 1800 {
		t.Errorf("%d of 2000 were drawn: %s", all, w)
	}
	chi, freedom := 0.0, -1.0
	for i, part := range parts {
		want := part * float64(all)
		switch {
		case i < len(parts)-1 && part == 0 || want == 0:
			if got[i] != 0 && want == 0 {
				t.Errorf("%d has %d, and should have none", i, got[i])
			}
		default:
			chi += (float64(got[i]) - want) * (float64(got[i]) - want) / want
			freedom++
		}
		if off := math.Abs(float64(got[i]) - want); c.policy == lane.RoundRobin && off > 3 {
			t.Errorf("in turn %d has %d, want %f", i, got[i], want)
		}
	}
	// Of a million runs some ten are as far off.
	if chi > freedom+6*math.Sqrt(2*freedom)+10 {
		t.Errorf("%v are not as they should be: chi-square %f of %f", got, chi, freedom)
	}
}
