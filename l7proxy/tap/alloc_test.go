//go:build !race

package tap

import (
	"testing"

	"github.com/dubway/dubway/internal/admin"
)

// TestLookingAllocates nothing while nobody looks, nor while requests are added
// up, nor while a tap's filter holds them back.
func TestLookingAllocates(t *testing.T) {
	r := newRig(t, true)
	c := r.prepared(nil)
	rec := record(c)
	check := func(what string) {
		t.Helper()
		n := testing.AllocsPerRun(1000, func() {
			if r.hub.Bodies() {
				r.hub.Capture(c, nil, 0)
			}
			observe(rec)
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
	check("nobody looks")
	top := newTop(admin.TopByBoth, &filter{})
	other := newWatch(&filter{method: "leave"}, true)
	for _, w := range []watcher{top, other} {
		if err := r.hub.join(w); err != nil {
			t.Fatal(err)
		}
		defer r.hub.leave(w)
	}
	check("a top, and a tap of other requests")
	if n := top.rows[top.lineOf(c)].calls.Load(); n < 1000 {
		t.Errorf("the top counted %d requests", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	h := &Hub{}
	rec := record(unprepared())
	bench := func(name string) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if h.Watched() {
					h.Observe(rec)
				}
			}
		})
	}
	bench("nobody")
	tap := newWatch(&filter{}, false)
	if err := h.join(tap); err != nil {
		b.Fatal(err)
	}
	bench("tap, full")
	h.leave(tap)
	if err := h.join(newTop(admin.TopByBoth, &filter{})); err != nil {
		b.Fatal(err)
	}
	bench("top")
}
