package zone

import (
	"fmt"
	"math"
	"testing"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

func TestShare(t *testing.T) {
	for _, tt := range []struct {
		endpoints []int
		own       int
		want      []float64
	}{
		{[]int{4, 4, 4}, 0, []float64{1, 0, 0}},
		{[]int{2, 6, 2}, 1, []float64{0, 1, 0}},
		{[]int{2, 6, 4}, 0, []float64{0.5, 0.5, 0}},
		{[]int{1, 5, 4}, 0, []float64{0.3, 0.5, 0.2}},
		{[]int{1, 4, 4}, 0, []float64{1.0 / 3, 1.0 / 3, 1.0 / 3}},
		{[]int{7}, 0, []float64{1}},
	} {
		got := Share(tt.endpoints, tt.own)
		for i := range got {
			if math.Abs(got[i]-tt.want[i]) > 1e-9 {
				t.Errorf("%v, own %d: %v, want %v", tt.endpoints, tt.own, got, tt.want)
				break
			}
		}
	}
	// Whatever the numbers, everything is shared out and nothing is negative.
	for a := 1; a < 12; a++ {
		for b := range 12 {
			for c := range 12 {
				var sum float64
				for _, part := range Share([]int{a, b, c}, 0) {
					if sum += part; !(part >= 0) {
						t.Fatalf("%d, %d, %d: a part of %v", a, b, c, part)
					}
				}
				if math.Abs(sum-1) > 1e-9 {
					t.Fatalf("%d, %d, %d: the parts sum to %v", a, b, c, sum)
				}
			}
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{"": "[]", "r": "[r]", "r/z": "[r z]", "r/z/s": "[r z s]", "r//s": "", "r/z/s/x": "", "/": ""} {
		z, err := Parse(text)
		if want == "" && err == nil || want != "" && (err != nil || fmt.Sprint([]string(z)) != want || z.Name() != text) {
			t.Errorf("%q is %q, %v", text, z, err)
		}
	}
	z, _ := Parse("r/z")
	if got := z.Of(&snapshot.Locality{Region: "r", Zone: "z", SubZone: "s"}); got != "r/z" {
		t.Errorf("a subzone of r/z is in %q", got)
	}
}
