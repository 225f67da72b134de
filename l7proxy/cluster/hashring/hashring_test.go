package hashring

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// members are called 127.0.0.1:90 and so on, as in Envoy's own tests.
func members(weights ...float64) []Member {
	var sum float64
	for _, w := range weights {
		sum += w
	}
	list := make([]Member, len(weights))
	for i, w := range weights {
		list[i] = Member{fmt.Sprintf("127.0.0.1:%d", 90+i), w / sum}
	}
	return list
}

// The points that Envoy's tests give for six endpoints and two points each.
func TestRingIsEnvoys(t *testing.T) {
	r := NewRing(members(1, 1, 1, 1, 1, 1), 12, 8<<20)
	want := []point{
		{833437586790550860, 4}, {928266305478181108, 2}, {1033482794131418490, 0}, {3551244743356806947, 5},
		{3851675632748031481, 3}, {5583722120771150861, 1}, {6311230543546372928, 1}, {7700377290971790572, 3},
		{13144177310400110813, 5}, {13444792449719432967, 2}, {15516499411664133160, 4}, {16117243373044804889, 0},
	}
	if fmt.Sprint(r.points) != fmt.Sprint(want) {
		t.Errorf("the points are %v, want %v", r.points, want)
	}
	for _, tt := range []struct {
		hash    uint64
		attempt int
		want    int
	}{
		{0, 0, 4}, {math.MaxUint64, 0, 4}, {3551244743356806947, 0, 5}, {3551244743356806948, 0, 3},
		{0, 1, 2}, {0, 2, 0}, {0, 13, 2}, // wraps around
	} {
		if got := r.At(tt.hash, tt.attempt); got != tt.want {
			t.Errorf("hash %d, attempt %d: member %d, want %d", tt.hash, tt.attempt, got, tt.want)
		}
	}
}

// The same for weights 1, 2 and 3: six points exactly, then 6,144 and the counts that
// Envoy's test has for 6,000 even hashes.
func TestWeightedRingIsEnvoys(t *testing.T) {
	r := NewRing(members(1, 2, 3), 6, 6)
	want := []point{
		{928266305478181108, 2}, {4443673547860492590, 2}, {5583722120771150861, 1},
		{6311230543546372928, 1}, {13444792449719432967, 2}, {16117243373044804889, 0},
	}
	if fmt.Sprint(r.points) != fmt.Sprint(want) {
		t.Errorf("the points are %v, want %v", r.points, want)
	}
	r = NewRing(members(1, 2, 3), 6144, 8<<20)
	var counts [3]int
	for i := range uint64(6000) {
		counts[r.At(i*(math.MaxUint64/6000), 0)]++
	}
	if r.Len() != 6144 || counts != [3]int{987, 1932, 3081} {
		t.Errorf("%d points share 6000 hashes as %v", r.Len(), counts)
	}
}

func TestRingSize(t *testing.T) {
	for _, tt := range []struct {
		weights     []float64
		least, most uint64
		want        int
	}{
		{[]float64{1, 1}, 3, 100, 4}, // whole points for each
		{[]float64{1}, 1, 1, 1},
		{[]float64{1, 1, 1}, 1024, 8 << 20, 1026},
		{[]float64{1, 99}, 10, 8 << 20, 100}, // the lightest gets a whole one
		{[]float64{1, 1, 1, 1}, 2, 2, 2},     // fewer points than members
	} {
		if got := NewRing(members(tt.weights...), tt.least, tt.most).Len(); got != tt.want {
			t.Errorf("%v of %d to %d: %d points, want %d", tt.weights, tt.least, tt.most, got, tt.want)
		}
	}
}

// The tables that Envoy's tests give.
func TestMaglevIsEnvoys(t *testing.T) {
	for _, tt := range []struct {
		members []Member
		want    []int32
	}{
		{members(1, 1, 1, 1, 1, 1), []int32{2, 4, 0, 1, 5, 0, 3}},
		{members(1, 2), []int32{1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1}},
		{members(1, 1), []int32{1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1}},
		{members(8, 2), []int32{1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0}},
	} {
		m := NewMaglev(tt.members, uint64(len(tt.want)))
		if fmt.Sprint(m.places) != fmt.Sprint(tt.want) {
			t.Errorf("%v: the table is %v, want %v", tt.members, m.places, tt.want)
		}
	}
	m := NewMaglev(members(1, 1, 1, 1, 1, 1), 7)
	for attempt, want := range []int{1, 0, 5} {
		if got := m.At(10, attempt); got != want {
			t.Errorf("attempt %d of hash 10: member %d, want %d", attempt, got, want)
		}
	}
}

// size is Envoy's size of a table.
const size = 65537

// tables are the two with a hundred members or so.
func tables(list []Member) map[string]Table {
	return map[string]Table{"ring": NewRing(list, 20_000, 8<<20), "maglev": NewMaglev(list, size)}
}

// The order in which members are told changes nothing.
func TestOrder(t *testing.T) {
	list := members(3, 1, 2, 2, 5)
	turned := append([]Member{}, list[2:]...)
	turned = append(turned, list[:2]...)
	other := tables(turned)
	for name, table := range tables(list) {
		for range 1000 {
			hash := rand.Uint64()
			if a, b := list[table.At(hash, 0)], turned[other[name].At(hash, 0)]; a != b {
				t.Fatalf("%s: hash %d belongs to %s or %s", name, hash, a.Key, b.Key)
			}
		}
	}
}

// When one of a hundred goes, its hashes move and few others do: none on the ring, a
// few in a hundred in maglev's table. A table that is hashed by the number of members
// would move 99 of 100.
func TestFewMove(t *testing.T) {
	weights := make([]float64, 100)
	for i := range weights {
		weights[i] = 1
	}
	list := members(weights...)
	fewer := append([]Member{}, list[:40]...)
	fewer = append(fewer, list[41:]...)
	for i := range fewer {
		fewer[i].Weight = 1.0 / 99
	}
	after := tables(fewer)
	for name, before := range tables(list) {
		moved, its := 0, 0
		const tries = 20_000
		random := rand.New(rand.NewPCG(1, 2))
		for range tries {
			hash := random.Uint64()
			switch was := before.At(hash, 0); {
			case was == 40:
				its++
			case list[was] != fewer[after[name].At(hash, 0)] && list[was].Key != fewer[after[name].At(hash, 0)].Key:
				moved++
			}
		}
		if its < tries/100/2 || its > tries/100*2 {
			t.Errorf("%s: the one that goes had %d of %d hashes", name, its, tries)
		}
		if most := map[string]int{"ring": tries / 50, "maglev": tries / 20}[name]; moved > most {
			t.Errorf("%s: %d of %d hashes of others moved, want %d at most", name, moved, tries, most)
		}
	}
}

// Each member's share of the hashes is its weight's: maglev's within a few per
// mille, the ring's within four standard deviations of its points.
func TestShares(t *testing.T) {
	weights := []float64{1, 2, 3, 4}
	for name, table := range tables(members(weights...)) {
		counts := make([]float64, len(weights))
		const tries = 200_000
		random := rand.New(rand.NewPCG(1, 2))
		for range tries {
			counts[table.At(random.Uint64(), 0)]++
		}
		for i, w := range weights {
			share, want := counts[i]/tries, w/10
			if off := math.Abs(share-want) / want; off > 0.09 || name == "maglev" && off > 0.03 {
				t.Errorf("%s: member %d of weight %v has %.4f of the hashes", name, i, w, share)
			}
		}
	}
}

// Further attempts reach others.
func TestAttempts(t *testing.T) {
	for name, table := range tables(members(1, 1, 1, 1, 1)) {
		seen := make(map[int]bool)
		for attempt := range 60 {
			seen[table.At(12345, attempt)] = true
		}
		if len(seen) != 5 {
			t.Errorf("%s: 60 attempts reach %d of 5 members", name, len(seen))
		}
	}
}

func BenchmarkTables(b *testing.B) {
	weights := make([]float64, 1000)
	for i := range weights {
		weights[i] = 1
	}
	list := members(weights...)
	b.Run("new ring", func(b *testing.B) {
		for b.Loop() {
			NewRing(list, 1024, 8<<20)
		}
	})
	b.Run("new maglev", func(b *testing.B) {
		for b.Loop() {
			NewMaglev(list, size)
		}
	})
	for name, table := range tables(list) {
		b.Run("at "+name, func(b *testing.B) {
			for b.Loop() {
				table.At(rand.Uint64(), 0)
			}
		})
	}
}
