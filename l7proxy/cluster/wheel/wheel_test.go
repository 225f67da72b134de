package wheel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func wheelOf(weights ...uint64) *Wheel {
	return New(len(weights), func(i int) uint64 { return weights[i] })
}

func TestWheelOfEqualsTakesTurns(t *testing.T) {
	for n := range 9 {
		w := wheelOf(make([]uint64, n+1)...)
		w.turn.Store(math.MaxUint64 / 2)
		last := w.Next()
		for range 100 {
			next := w.Next()
			if next != (last+1)%(n+1) {
				t.Fatalf("of %d, %d follows %d", n+1, next, last)
			}
			last = next
		}
	}
}

// After any number of picks no slot is more than a little away from its share:
// that is what round robin by weight promises, and random choice does not.
func TestWheelIsSmooth(t *testing.T) {
	many := make([]uint64, 200)
	for i := range many {
		many[i] = uint64(i%7 + 1)
	}
	for _, weights := range [][]uint64{
		{2, 1}, {1, 2, 3}, {90, 10}, {99, 1}, {1, 1, 1, 1, 1, 5}, {1000, 1}, {1 << 31, 1 << 30}, many,
	} {
		var total uint64
		for _, weight := range weights {
			total += weight
		}
		for start := range uint64(20) {
			w := wheelOf(weights...)
			w.turn.Store(start * 0x123456789abcdef)
			counts := make([]float64, len(weights))
			for n := 1; n <= 5000; n++ {
				slot := w.Next()
				counts[slot]++
				want := float64(n) * float64(weights[slot]) / float64(total)
				if d := counts[slot] - want; math.Abs(d) > 2.5 {
					t.Fatalf("weights %v: after %d picks slot %d is %.2f off its share", weights, n, slot, d)
				}
			}
		}
	}
}

// One round gives each slot exactly its weight, wherever it starts.
func TestWheelRoundIsExact(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		weights := make([]uint64, 2+random.IntN(6))
		total := uint64(0)
		for i := range weights {
			weights[i] = 1 + random.Uint64N(50)
			total += weights[i]
		}
		w := wheelOf(weights...)
		counts := make([]uint64, len(weights))
		for range total {
			counts[w.Next()]++
		}
		if !slices.Equal(counts, weights) {
			t.Fatalf("a round of %v gave %v", weights, counts)
		}
	}
}

func TestWheelAtFollowsWeights(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, weights := range [][]uint64{{1}, {1, 1, 1}, {3, 1}, {5, 1, 4, 10}, {1 << 32, 1 << 31}} {
		w := wheelOf(weights...)
		counts := make([]int, len(weights))
		const n = 40_000
		for range n {
			counts[w.At(random.Uint64())]++
		}
		fits(t, counts, weights)
	}
	w := wheelOf(3, 1)
	if first, last := w.At(0), w.At(math.MaxUint64); first != 0 || last != 1 {
		t.Errorf("the ends of the circle are %d and %d, want 0 and 1", first, last)
	}
}

// fits fails when counts are not a plausible sample of the weights: Pearson's
// chi-square over its mean by more than six standard deviations.
func fits(t *testing.T, counts []int, weights []uint64) {
	t.Helper()
	var n, total float64
	for i := range counts {
		n += float64(counts[i])
		total += float64(weights[i])
	}
	var chi float64
	freedom := -1.0
	for i, c := range counts {
		want := n * float64(weights[i]) / total
		if want == 0 {
			if c != 0 {
				t.Errorf("slot %d of weight 0 got %d", i, c)
			}
			continue
		}
		chi += (float64(c) - want) * (float64(c) - want) / want
		freedom++
	}
	if freedom > 0 && chi > freedom+6*math.Sqrt(2*freedom) {
		t.Errorf("counts %v do not fit the weights %v (chi-square %.1f with %.0f degrees of freedom)", counts, weights, chi, freedom)
	}
}

// TestWeights: what each slot gets of a round.
func TestWeights(t *testing.T) {
	for _, tt := range []struct{ of, want []uint64 }{
		{[]uint64{5}, []uint64{1}},
		{[]uint64{3, 3, 3}, []uint64{1, 1, 1}},
		{[]uint64{2, 6, 4}, []uint64{1, 3, 2}},
		{[]uint64{0, 4, 2}, []uint64{0, 2, 1}},
	} {
		if got := New(len(tt.of), func(i int) uint64 { return tt.of[i] }).Weights(); !slices.Equal(got, tt.want) {
			t.Errorf("%d: %d, want %d", tt.of, got, tt.want)
		}
	}
}
