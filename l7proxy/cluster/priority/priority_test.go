package priority

import (
	"fmt"
	"slices"
	"testing"
)

// levelsOf makes levels of which so many in a hundred endpoints are healthy.
func levelsOf(fit ...uint64) []Level {
	levels := make([]Level, len(fit))
	for i, n := range fit {
		levels[i] = Level{Total: 100, Fit: n}
	}
	return levels
}

func outcome(levels []Level) (loads []uint64, panics []bool) {
	for _, l := range levels {
		loads, panics = append(loads, l.Load), append(panics, l.Panic)
	}
	return loads, panics
}

// The tables of Envoy's documentation on priority levels. Where its rounded
// numbers and its code differ (the code gives what rounding leaves to the first
// priority), the code's stand here.
func TestShareIsEnvoys(t *testing.T) {
	for _, tt := range []struct{ fit, load []uint64 }{
		{[]uint64{100, 100}, []uint64{100, 0}},
		{[]uint64{72, 100}, []uint64{100, 0}},
		{[]uint64{71, 100}, []uint64{99, 1}},
		{[]uint64{50, 100}, []uint64{70, 30}},
		{[]uint64{25, 100}, []uint64{35, 65}},
		{[]uint64{0, 100}, []uint64{0, 100}},
		{[]uint64{72, 72}, []uint64{100, 0}},
		{[]uint64{71, 71}, []uint64{99, 1}},
		{[]uint64{50, 50}, []uint64{70, 30}},
		{[]uint64{50, 60}, []uint64{70, 30}},
		{[]uint64{100, 100, 100}, []uint64{100, 0, 0}},
		{[]uint64{72, 72, 100}, []uint64{100, 0, 0}},
		{[]uint64{71, 71, 100}, []uint64{99, 1, 0}},
		{[]uint64{50, 50, 100}, []uint64{70, 30, 0}},
		{[]uint64{25, 100, 100}, []uint64{35, 65, 0}},
		{[]uint64{25, 25, 100}, []uint64{35, 35, 30}},
		{[]uint64{25, 25, 20}, []uint64{37, 35, 28}},
		{[]uint64{0, 0, 0}, []uint64{0, 0, 0}},
	} {
		t.Run(fmt.Sprint(tt.fit), func(t *testing.T) {
			levels := levelsOf(tt.fit...)
			Share(levels, 140, 0)
			load, panics := outcome(levels)
			if !slices.Equal(load, tt.load) {
				t.Errorf("load is %v, want %v", load, tt.load)
			}
			if slices.Contains(panics, true) {
				t.Errorf("panic is %v with a threshold of 0", panics)
			}
		})
	}
}

func TestPanicIsEnvoys(t *testing.T) {
	for _, tt := range []struct {
		fit, load []uint64
		panics    []bool
	}{
		{[]uint64{72, 72}, []uint64{100, 0}, []bool{false, false}},
		{[]uint64{25, 100}, []uint64{35, 65}, []bool{false, false}}, // together they reach 100
		{[]uint64{0, 100}, []uint64{0, 100}, []bool{false, false}},
		{[]uint64{25, 25}, []uint64{50, 50}, []bool{true, true}},
		{[]uint64{5, 65}, []uint64{8, 92}, []bool{true, false}},
		{[]uint64{0, 0}, []uint64{50, 50}, []bool{true, true}}, // by size
		{[]uint64{49}, []uint64{100}, []bool{true}},
		{[]uint64{50}, []uint64{100}, []bool{false}},
		{[]uint64{0}, []uint64{100}, []bool{true}},
	} {
		t.Run(fmt.Sprint(tt.fit), func(t *testing.T) {
			levels := levelsOf(tt.fit...)
			Share(levels, 140, 50)
			load, panics := outcome(levels)
			if !slices.Equal(load, tt.load) || !slices.Equal(panics, tt.panics) {
				t.Errorf("load is %v, panic %v, want %v, %v", load, panics, tt.load, tt.panics)
			}
		})
	}
}

// Where all panic the load follows the number of endpoints.
func TestShareBySize(t *testing.T) {
	levels := []Level{{Total: 0}, {Total: 2, Fit: 0}, {Total: 1, Fit: 0}}
	Share(levels, 140, 50)
	if load, _ := outcome(levels); !slices.Equal(load, []uint64{0, 67, 33}) {
		t.Errorf("load is %v, want [0 67 33]", load)
	}
}

// Whatever the health, the load of all levels is 100 when any endpoint may be
// used, and a healthy endpoint never is without load elsewhere.
func TestShareSumsToAHundred(t *testing.T) {
	for a := range uint64(21) {
		for b := range uint64(21) {
			for c := range uint64(21) {
				for _, threshold := range []uint64{0, 50, 100} {
					levels := []Level{{Total: 20, Fit: a}, {Total: 20, Fit: b}, {Total: 20, Fit: c}}
					Share(levels, 140, threshold)
					load, _ := outcome(levels)
					want := uint64(100)
					if a+b+c == 0 && threshold == 0 {
						want = 0
					}
					if sum := load[0] + load[1] + load[2]; sum != want {
						t.Fatalf("load of %d %d %d (threshold %d) is %v, want the sum %d", a, b, c, threshold, load, want)
					}
				}
			}
		}
	}
}
