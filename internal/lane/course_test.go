package lane

import (
	"encoding/binary"
	"testing"
)

// frames makes frames with bodies of these lengths.
func frames(bodies ...int) (all []byte) {
	for _, n := range bodies {
		f := make([]byte, header+n)
		binary.BigEndian.PutUint32(f[header-4:], uint32(n))
		all = append(all, f...)
	}
	return all
}

// TestFollow: a guess is confirmed if a frame begins there, and stays so until there is
// another.
func TestFollow(t *testing.T) {
	const seq = 1<<32 - 20 // it wraps
	read := frames(0, 4, 8)
	for name, test := range map[string]struct {
		guess, before, want uint64
	}{
		"none":              {0, 0, At(seq%(1<<32) + 60 - 1<<32)},
		"first":             {At(seq), 0, At(seq)},
		"second":            {At(seq + 16), 0, At(seq + 16)},
		"third, wrapped":    {At(16), 0, At(16)},
		"behind":            {At(40), 0, At(40)},
		"within":            {At(3), 0, At(40)},
		"before":            {At(seq - 1), 0, At(40)},
		"later":             {At(41), 0, At(40)},
		"not seen yet":      {At(seq - 16), At(seq - 16), At(seq - 16)},
		"confirmed, passed": {At(seq + 16), At(seq - 16), At(seq + 16)},
	} {
		c := Course{Guess: test.guess, Resume: test.before}
		if c.Follow(seq, read); c.Resume != test.want {
			t.Errorf("%s: %x, not %x", name, c.Resume, test.want)
		}
	}
	c := Course{}
	c.Guess = At(7)
	if c.Follow(7, nil); c.Resume != At(7) {
		t.Errorf("nothing read: %x", c.Resume)
	}
}
