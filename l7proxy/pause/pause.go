// Package pause says how long to wait before something that failed is tried again.
package pause

import (
	"math/rand/v2"
	"time"
)

// After is how long to wait after so many failures in a row: least, doubled with each, and
// most at most. Half of it is chance, so that those who failed together do not come back
// together.
func After(failures int, least, most time.Duration) time.Duration {
	d := most
	if failures < 6 {
		d = min(most, least<<failures)
	}
	return d/2 + rand.N(d/2+1)
}
