package learned

import (
	"math"
	"math/bits"
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
		if s.Remote {
			r.Flags |= lane.Mixed
			continue
		}
		if len(s.Elsewhere) > 0 {
			r.Flags |= lane.Mixed
		}
		if !choose(r, to, s, numbers) {
			return false
		}
	}
	r.Count = uint8(len(shares))
	return true
}

// choose writes among whom the programs choose for a share, and how.
func choose(r *lane.Route, to *lane.Share, s *verdict.Share, numbers []netip.AddrPort) bool {
	switch s.Policy {
	case snapshot.Random:
		to.Policy = lane.Random
	case snapshot.LeastRequest:
		r.Flags |= lane.CountsActive
		if len(s.Ends)+len(s.Elsewhere) > 1 {
			return compare(r, to, s, numbers)
		}
	case snapshot.RoundRobin, snapshot.RingHash, snapshot.Maglev: // the latter are no verdict's
	}
	to.Beyond = beyond(s)
	return turns(to, s, numbers)
}

// beyond is the part of a share that is for endpoints elsewhere.
func beyond(s *verdict.Share) uint32 {
	var here, there uint64
	for i := range s.Ends {
		here += uint64(s.Ends[i].Weight)
	}
	for i := range s.Elsewhere {
		there += uint64(s.Elsewhere[i].Weight)
	}
	if there == 0 {
		return 0
	}
	high, low := bits.Mul64(there, 1<<32)
	part, _ := bits.Div64(high, low, here+there)
	return uint32(min(max(part, 1), math.MaxUint32))
}

// compare writes the candidates of a share: its ends first. Who counts what they have in flight
// bind says.
func compare(r *lane.Route, to *lane.Share, s *verdict.Share, numbers []netip.AddrPort) bool {
	first := 0
	for i := range r.Shares {
		first += candidates(&r.Shares[i])
	}
	n := len(s.Ends) + len(s.Elsewhere)
	if first+n > lane.Candidates || s.Draws == 0 && n > lane.Weighed {
		return false
	}
	to.Policy, to.First, to.Count = lane.ByLoad, uint8(first), uint8(n)
	if s.Draws > 0 {
		to.Policy, to.Draws = lane.LeastRequest, uint8(min(s.Draws, lane.Draws))
	}
	all := r.Candidates[first:][:n]
	for i := range s.Ends {
		all[i] = lane.Candidate{Weight: s.Ends[i].Weight, End: uint8(slices.Index(numbers, s.Ends[i].Address))}
	}
	for i := range s.Elsewhere {
		at := &all[len(s.Ends)+i]
		at.End = lane.Ends
		if !s.Elsewhere[i].Avoided {
			at.Weight = s.Elsewhere[i].Weight
		}
	}
	return true
}

// candidates is how many a share has.
func candidates(s *lane.Share) int {
	if s.Policy == lane.LeastRequest || s.Policy == lane.ByLoad {
		return int(s.Count)
	}
	return 0
}

// turns writes the choices of a share: each end as often as it weighs, and as far apart
// as may be, because a cursor goes round them.
func turns(to *lane.Share, s *verdict.Share, numbers []netip.AddrPort) bool {
	weights, ok := s.Turns()
	if !ok || len(s.Ends)+len(s.Elsewhere) == 0 {
		return false
	}
	total := int64(0)
	for _, w := range weights {
		total += int64(w)
	}
	due := make([]int64, len(weights))
	for i := range total {
		best := 0
		for j := range weights {
			if due[j] += int64(weights[j]); due[j] > due[best] {
				best = j
			}
		}
		due[best] -= total
		to.Choices[i] = uint8(slices.Index(numbers, s.Ends[best].Address))
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
