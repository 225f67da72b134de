package served

import (
	"os"
	"syscall"
	"testing"
)

func open(t *testing.T, dir, state string) *Note {
	t.Helper()
	n, err := Open(dir, state)
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func borrow(t *testing.T, n *Note) *Lent {
	t.Helper()
	file, err := n.Lend()
	must(t, err)
	defer file.Close()
	fd, err := syscall.Dup(int(file.Fd()))
	must(t, err)
	l := &Lent{}
	l.Borrow(n.Name(), []int{fd})
	t.Cleanup(l.Close)
	return l
}

// TestNote: a proxy learns that another agent's serves, and not that its own does, also
// where that began anew; while nobody is known to serve it learns nothing.
func TestNote(t *testing.T) {
	dir, states := t.TempDir(), [2]string{t.TempDir(), t.TempDir()}
	a, b := open(t, dir, states[0]), open(t, dir, states[1])
	again := open(t, dir, states[0])
	if a.Name() == b.Name() || a.Name() != again.Name() || len(a.Name()) != size {
		t.Fatalf("names %q, %q and, of the first again, %q", a.Name(), b.Name(), again.Name())
	}
	of := [2]*Lent{borrow(t, a), borrow(t, b)}
	for _, step := range []struct {
		what    string
		do      func() error
		another [2]bool
	}{
		{"nobody has written", func() error { return nil }, [2]bool{}},
		{"the first serves", a.Write, [2]bool{false, true}},
		{"its agent's next process begins", again.Clear, [2]bool{}},
		{"and serves", again.Write, [2]bool{false, true}},
		{"the second begins", b.Clear, [2]bool{}},
		{"and serves", b.Write, [2]bool{true, false}},
	} {
		must(t, step.do())
		for i, l := range of {
			if l.Another() != step.another[i] {
				t.Errorf("%s: proxy %d hears %t", step.what, i, l.Another())
			}
		}
	}
	if of[0].Borrow(b.Name(), nil); of[0].Another() || new(Lent).Another() {
		t.Error("who was lent nothing, or nothing at last, hears of another")
	}
}

// TestLentIsRead: what a proxy has of the note cannot be written.
func TestLentIsRead(t *testing.T) {
	n := open(t, t.TempDir(), t.TempDir())
	file, err := n.Lend()
	must(t, err)
	defer file.Close()
	if _, err := file.WriteAt([]byte("x"), 0); err == nil {
		t.Error("it was written")
	}
	info, err := os.Stat(Path(t.TempDir()))
	if err == nil {
		t.Errorf("a note where none was opened: %v", info)
	}
	if info, err = file.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the note's mode is %v, %v: its proxy could open it again", info.Mode(), err)
	}
}
