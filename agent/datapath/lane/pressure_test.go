//go:build guest

package lane_test

import (
	"os"
	"sync/atomic"
	"testing"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/internal/lane"
)

// memoryOfTCP sets net.ipv4.tcp_mem for a test, and says what it was.
func memoryOfTCP(t *testing.T) (before string, set func(text string)) {
	t.Helper()
	const name = "/proc/sys/net/ipv4/tcp_mem"
	text, err := os.ReadFile(name)
	lanetest.Must(t, err)
	before = string(text)
	set = func(text string) {
		t.Helper()
		lanetest.Must(t, os.WriteFile(name, []byte(text), 0o600))
	}
	t.Cleanup(func() { set(before) })
	return before, set
}

// TestMemoryOfTCP: while TCP's memory on this host is short, what it cannot be sure of takes TCP,
// and every byte of it arrives; then the lane again. It is of the matrix's machines (tag guest): nobody
// else's connections are slow there.
func TestMemoryOfTCP(t *testing.T) {
	before, set := memoryOfTCP(t)
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 2, 64, answers)
	lanetest.Must(t, w.proxy.Open(0))
	for _, pages := range []string{"1500 2000 3000", "700 930 1400", "200 260 50000", "1 1 50000"} {
		set(pages)
		for range 6 {
			w.send(w.calls(64, lane.Hessian2, "echo", 100_000), lanetest.Named("one write each"))
		}
		w.settle()
		t.Logf("%s pages: %s", pages, w)
		if w.proxy.Lane().Flags&lane.Answers == 0 { // it was left
			lanetest.Must(t, w.proxy.Close())
			lanetest.Must(t, w.proxy.Open(0))
		}
	}
	if atomic.LoadUint64(&w.proxy.Lane().Scarce) == 0 {
		t.Errorf("there was always memory: %s", w)
	}
	requested := atomic.LoadUint64(&w.proxy.Lane().Requested)
	set(before)
	if requests, back := w.burst(); requests == 0 || back == 0 {
		t.Errorf("with memory again %d requests and %d answers took the lane, after %d; %s", requests, back, requested, w)
	}
}
