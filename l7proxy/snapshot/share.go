package snapshot

import (
	"math/bits"
	"math/rand/v2"
)

// Million is the whole of a share: shares and fractions are in millionths.
const Million = 1_000_000

// Hit tells whether the one that has this random number is in a share. What is in
// a smaller share with a number is in a larger one too.
func Hit(share uint32, random uint64) bool {
	if share >= Million {
		return true
	}
	place, _ := bits.Mul64(random, Million)
	return uint32(place) < share
}

// Draw is a random number for Hit: one that every share has, but an empty one, if somebody has
// drawn already.
func Draw(r *rand.Rand, drawn bool) uint64 {
	if drawn {
		return 0
	}
	return r.Uint64()
}
