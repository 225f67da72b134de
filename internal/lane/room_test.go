package lane

import (
	"errors"
	"testing"
)

// TestRoom: who asks why there is no room is told the reason that lasts longest.
func TestRoom(t *testing.T) {
	for name, test := range map[string]struct {
		state State
		want  error
	}{
		"nobody's":           {State{Flags: Scarce}, ErrUnknown},
		"room":               {State{Peer: 1, Flags: Charged}, nil},
		"scarce":             {State{Peer: 1, Flags: Charged | Scarce}, ErrScarce},
		"limited for good":   {State{Peer: 1, Flags: MemoryLimited}, ErrLimited},
		"limited and scarce": {State{Peer: 1, Flags: Scarce | MemoryLimited}, ErrLimited},
	} {
		if err := test.state.Room(); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}
