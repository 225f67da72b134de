package delivery

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"
)

// receiver keeps what it is given.
type receiver struct {
	writes, settled int
	got             []byte
	gone            bool
}

func (r *receiver) Deliver(frames ...[]byte) error {
	r.writes++
	r.got = append(r.got, bytes.Join(frames, nil)...)
	if r.gone {
		return errors.New("gone")
	}
	return nil
}

func (r *receiver) Settled(n int) { r.settled += n }

// seen is what an observer was told.
type seen struct {
	items  []int
	failed int
}

func (s *seen) Delivered(item *int, _ time.Time, failed bool) {
	s.items = append(s.items, *item)
	if failed {
		s.failed++
	}
}

// TestRound: each receiver gets its frames in order and in one write; a second
// round has nothing of the first.
func TestRound(t *testing.T) {
	var r Round[int]
	a, b := &receiver{}, &receiver{gone: true}
	read := []byte("one two call three ")
	for round := 1; round <= 2; round++ {
		r.Add(a, read[:4], 1)
		r.Add(b, read[4:8], 2)
		r.Pass(a, read[8:13])
		r.Add(a, read[13:], 3)
		var s seen
		r.Deliver(&s)
		if !slices.Equal(s.items, []int{1, 3, 2}) || s.failed != 1 {
			t.Errorf("observed %v, %d failed; want 1 3 2, 1", s.items, s.failed)
		}
		if a.writes != round || a.settled != 2*round || b.settled != round {
			t.Errorf("%d writes, %d and %d settled", a.writes, a.settled, b.settled)
		}
	}
	if string(a.got) != "one call three one call three " || string(b.got) != "two two " {
		t.Errorf("delivered %q and %q", a.got, b.got)
	}
	var s seen
	if r.Deliver(&s); len(s.items) > 0 || a.writes != 2 {
		t.Error("an empty round delivers something")
	}
}

// TestRoundAllocatesNothing, once it has grown.
func TestRoundAllocatesNothing(t *testing.T) {
	var r Round[int]
	a, b, s := &quiet{}, &quiet{}, &quiet{}
	frame := make([]byte, 10)
	once := func() {
		for i := range 10 {
			r.Add(a, frame, i)
			r.Add(b, frame, i)
		}
		r.Deliver(s)
	}
	once()
	if n := testing.AllocsPerRun(100, once); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

type quiet struct{ n int }

func (*quiet) Deliver(...[]byte) error           { return nil }
func (q *quiet) Settled(n int)                   { q.n += n }
func (q *quiet) Delivered(*int, time.Time, bool) { q.n++ }
