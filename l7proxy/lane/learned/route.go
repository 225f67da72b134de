package learned

import (
	"math"
	"net/netip"
	"slices"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// fill writes the shares of a route; false: they have no room there. Numbers are the
// addresses of ends, by their numbers.
func fill(r *lane.Route, shares []verdict.Share, numbers []netip.AddrPort) bool {
	if len(shares) == 0 || len(shares) > lane.Shares {
		return false
	}
	var sum, below uint64
	for i := range shares {
		sum += uint64(shares[i].Weight)
	}
	for i := range shares {
		s, to := &shares[i], &r.Shares[i]
		below += uint64(s.Weight)
		to.UpTo = uint32(max(below*(1<<32)/sum, 1) - 1)
		if i == len(shares)-1 {
			to.UpTo = math.MaxUint32
		}
		switch s.Policy {
		case snapshot.Random:
			to.Policy = lane.Random
		case snapshot.LeastRequest:
			to.Policy, r.Flags = lane.LeastRequest, r.Flags|lane.CountsActive
		case snapshot.RoundRobin, snapshot.RingHash, snapshot.Maglev: // the latter are no verdict's
			to.Policy = lane.RoundRobin
		}
		if s.Remote {
			r.Flags |= lane.Mixed
			continue
		}
		if !choose(to, s.Ends, numbers) {
			return false
		}
	}
	r.Count = uint8(len(shares))
	return true
}

// choose writes the choices of a share: each end as often as it weighs, and as far apart
// as may be, because a cursor goes round them.
func choose(to *lane.Share, ends []verdict.End, numbers []netip.AddrPort) bool {
	total := int64(0)
	for _, e := range ends {
		total += int64(e.Weight)
	}
	if total == 0 || total > lane.Choices {
		return false
	}
	due := make([]int64, len(ends))
	for i := range total {
		best := 0
		for j := range ends {
			if due[j] += int64(ends[j].Weight); due[j] > due[best] {
				best = j
			}
		}
		due[best] -= total
		to.Choices[i] = uint8(slices.Index(numbers, ends[best].Address))
	}
	to.Count = uint8(total)
	return true
}

// walkable tells whether the programs can find the end of names: four strings, each of a
// length that stands in one or two bytes in hessian2, in four bytes behind them in
// fastjson2 (bpf/lane_frame.h).
func walkable(serialization byte, names []byte) bool {
	if serialization == lane.Fastjson2 {
		return true
	}
	at := 0
	for range 4 {
		if at >= len(names) {
			return false
		}
		switch b := names[at]; {
		case b <= 0x1f:
			at += 1 + int(b)
		case b >= 0x30 && b <= 0x33 && at+1 < len(names):
			at += 2 + int(b-0x30)<<8 + int(names[at+1])
		default:
			return false
		}
	}
	return at == len(names)
}
