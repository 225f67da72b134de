// Package hashring finds the member that a hash belongs to, so that equal hashes find
// the same one and few move when members come or go: by Envoy's two tables, the ring
// and maglev. It knows members by their keys alone.
package hashring

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Member is one of those that share the hashes.
type Member struct {
	// Key is what is hashed: for Envoy's own choice an endpoint's "ip:port".
	Key string
	// Weight is its share; those of all members sum to 1. None is 0.
	Weight float64
}

// Table is a prepared choice. Immutable.
type Table interface {
	// At returns the index of the member that a hash belongs to; at attempts above 0
	// another one's, for the most part, always the same for the same hash and attempt.
	At(hash uint64, attempt int) int
}

// byKey orders members, so that all proxies of a mesh make the same table whatever
// the order in which they were told of its members.
func byKey(members []Member) []int {
	order := make([]int, len(members))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(members[a].Key, members[b].Key) })
	return order
}

// Ring is a circle on which each member has points in proportion to its weight; a
// hash belongs to the next point (ketama, with Envoy's names of points).
type Ring struct {
	points []point // by hash
}

type point struct {
	hash   uint64
	member int32
}

var _ Table = (*Ring)(nil)

// NewRing makes a ring of as many points as least and most allow, as Envoy does: the
// lightest member gets a whole number of points. There is at least one member.
func NewRing(members []Member, least, most uint64) *Ring {
	lightest := 1.0
	for _, m := range members {
		lightest = min(lightest, m.Weight)
	}
	scale := min(math.Ceil(lightest*float64(least))/lightest, float64(most))
	r := &Ring{points: make([]point, 0, int(math.Ceil(scale)))}
	var target float64
	var name []byte
	for _, i := range byKey(members) {
		m := members[i]
		target += scale * m.Weight
		name = append(append(name[:0], m.Key...), '_')
		for n := 0; float64(len(r.points)) < target; n++ {
			numbered := strconv.AppendInt(name, int64(n), 10)
			r.points = append(r.points, point{xxhash.Sum64(numbered), int32(i)})
			name = numbered[:len(name)]
		}
	}
	slices.SortFunc(r.points, func(a, b point) int { return cmp.Compare(a.hash, b.hash) })
	return r
}

// At is part of Table: further attempts walk along the ring.
func (r *Ring) At(hash uint64, attempt int) int {
	at, _ := slices.BinarySearchFunc(r.points, hash, func(p point, h uint64) int { return cmp.Compare(p.hash, h) })
	return int(r.points[(at+attempt)%len(r.points)].member)
}

// Len is the number of points.
func (r *Ring) Len() int { return len(r.points) }

// Maglev is a table whose places the members fill in turns, each in an order of its
// own (Eisenbud et al., "Maglev", with Envoy's weights and hashes).
type Maglev struct {
	places []int32
}

var _ Table = (*Maglev)(nil)

// candidate is a member while places are taken.
type candidate struct {
	member             int32
	offset, skip, next uint64
	weight, target     float64
}

func (c *candidate) place(size uint64) uint64 {
	at := (c.offset + c.skip*c.next) % size
	c.next++
	return at
}

// NewMaglev makes a table of a size that is a prime. There is at least one member.
func NewMaglev(members []Member, size uint64) *Maglev {
	candidates := make([]candidate, len(members))
	var heaviest float64
	seeded := xxhash.NewWithSeed(1)
	for turn, i := range byKey(members) {
		m := members[i]
		seeded.ResetWithSeed(1)
		_, _ = seeded.WriteString(m.Key) // never fails
		candidates[turn] = candidate{
			member: int32(i), weight: m.Weight,
			offset: xxhash.Sum64String(m.Key) % size, skip: seeded.Sum64()%(size-1) + 1,
		}
		heaviest = max(heaviest, m.Weight)
	}
	t := &Maglev{places: make([]int32, size)}
	for i := range t.places {
		t.places[i] = -1
	}
	for turn, taken := 1.0, uint64(0); taken < size; turn++ {
		for i := range candidates {
			c := &candidates[i]
			// The heaviest has a place in every turn, one of a third of its weight in
			// every third.
			if taken == size || turn*c.weight < c.target {
				continue
			}
			c.target += heaviest
			at := c.place(size)
			for t.places[at] >= 0 {
				at = c.place(size)
			}
			t.places[at] = c.member
			taken++
		}
	}
	return t
}

// At is part of Table.
func (t *Maglev) At(hash uint64, attempt int) int {
	if attempt > 0 {
		hash ^= -uint64(attempt) // Envoy's: most bits are set, so it goes far
	}
	return int(t.places[hash%uint64(len(t.places))])
}
