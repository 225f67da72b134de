package pending

import "testing"

func TestTable(t *testing.T) {
	var s Table[int]
	seen := make(map[uint64]bool)
	take := func(v int) uint64 {
		t.Helper()
		id, ok := s.Take(v)
		if !ok {
			t.Fatal("no slot")
		}
		if seen[id] {
			t.Fatalf("id %#x was given before", id)
		}
		seen[id] = true
		return id
	}
	give := func(id uint64, want bool) {
		t.Helper()
		if _, ok := s.Give(id); ok != want {
			t.Fatalf("Give(%#x) = %v, want %v", id, ok, want)
		}
	}
	a, b := take(7), take(7)
	if s.Busy() != 2 {
		t.Errorf("%d are busy, want 2", s.Busy())
	}
	give(a, true)
	give(a, false) // answered twice
	c := take(8)   // a's slot, another turn
	if uint32(c) != uint32(a) || c == a {
		t.Errorf("the free slot of %#x was used as %#x", a, c)
	}
	give(a, false) // late
	give(Unused, false)
	give(b+1, false)
	give(c|1<<63, false)
	if found, ok := s.Give(c); !ok || found != 8 {
		t.Errorf("Give = %d, %v; want 8", found, ok)
	}
	if left := s.Leave(func(v *int) bool { return *v != 7 }); len(left) != 0 {
		t.Errorf("Leave = %v, want nothing", left)
	}
	if left := s.Leave(func(*int) bool { return true }); len(left) != 1 || left[0] != 7 {
		t.Errorf("Leave = %v, want the 7 of b", left)
	}
	give(b, false)
	if s.Busy() != 0 {
		t.Errorf("%d are busy, want none", s.Busy())
	}
	for range 1000 {
		give(take(1), true)
	}
}

func TestFull(t *testing.T) {
	var s Table[int]
	ids := make(map[uint64]bool, Max)
	for range Max {
		id, ok := s.Take(1)
		if !ok || ids[id] || id == Unused {
			t.Fatalf("Take = %#x, %v after %d", id, ok, len(ids))
		}
		ids[id] = true
	}
	if _, ok := s.Take(1); ok {
		t.Error("a full table took one more")
	}
	for id := range ids {
		if _, ok := s.Give(id); !ok {
			t.Fatalf("Give(%#x) found nobody", id)
		}
		if again, ok := s.Take(1); !ok || again == id {
			t.Fatalf("Take = %#x, %v after %#x was given", again, ok, id)
		}
		break
	}
}

// TestTurn: ids stay positive for peers that read them as signed.
func TestTurn(t *testing.T) {
	s := Table[int]{all: []slot[int]{{turn: 1<<31 - 1}}, free: []uint32{0}}
	last, _ := s.Take(1)
	if int64(last) < 0 {
		t.Errorf("id %#x is negative", last)
	}
	s.Give(last)
	if id, ok := s.Take(1); !ok || id != 0 {
		t.Errorf("after the last turn comes %#x, %v; want the first", id, ok)
	}
}

func TestAllocatesNothing(t *testing.T) {
	var s Table[[4]uint64]
	if n := testing.AllocsPerRun(1000, func() {
		a, _ := s.Take([4]uint64{1})
		b, _ := s.Take([4]uint64{2})
		s.Give(a)
		s.Give(b)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
