package condition

import "testing"

// The piecewise comparisons against those of whole strings, at every cut.
func TestTextIsItsPieces(t *testing.T) {
	const whole = "/aBc.D/aBc"
	for a := range len(whole) + 1 {
		for b := a; b <= len(whole); b++ {
			for c := b; c <= len(whole); c++ {
				pieces := Text{whole[:a], whole[a:b], whole[b:c], whole[c:]}
				one := Text{whole}
				for _, want := range []string{"", "/", "a", "aBc", "/aBc", "c.D", whole, "c.D/aBc", "/aBc.D/aBcd", "ABC"} {
					for _, fold := range []bool{false, true} {
						for name, f := range map[string]func(*Text) bool{
							"prefix":   func(v *Text) bool { return v.HasPrefix(want, fold) },
							"suffix":   func(v *Text) bool { return v.HasSuffix(want, fold) },
							"contains": func(v *Text) bool { return v.Contains(want, fold) },
							"equals":   func(v *Text) bool { return v.Equals(want, fold) },
						} {
							if f(&pieces) != f(&one) {
								t.Fatalf("%q %s %q (fold %v): %v in one piece", pieces, name, want, fold, f(&one))
							}
						}
					}
				}
			}
		}
	}
}
