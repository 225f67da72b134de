package deadline

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// conn has deadlines.
type conn struct {
	mu     sync.Mutex
	added  bool
	due    []time.Time
	ended  []time.Time
	sweeps int
}

func (c *conn) begin(clock *Clock, d time.Duration) {
	c.mu.Lock()
	add := !c.added
	c.added = true
	c.due = append(c.due, time.Now().Add(d))
	c.mu.Unlock()
	if add {
		clock.Add(c)
	}
}

func (c *conn) Sweep(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweeps++
	left := c.due[:0]
	for _, at := range c.due {
		if at.After(now) {
			left = append(left, at)
		} else {
			c.ended = append(c.ended, now)
		}
	}
	c.due = left
	c.added = len(left) > 0
	return c.added
}

// TestClock: each deadline is noticed, in time, and the clock stands still when there
// is none.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var clock Clock
		a, b := &conn{}, &conn{}
		start := time.Now()
		a.begin(&clock, 100*time.Millisecond)
		a.begin(&clock, 20*time.Millisecond)
		b.begin(&clock, 50*time.Millisecond)
		time.Sleep(time.Second)
		synctest.Wait()
		for c, want := range map[*conn][]time.Duration{
			a: {20 * time.Millisecond, 100 * time.Millisecond}, b: {50 * time.Millisecond},
		} {
			if len(c.ended) != len(want) {
				t.Fatalf("%d ended, want %d", len(c.ended), len(want))
			}
			for i, at := range c.ended {
				if late := at.Sub(start) - want[i]; late < 0 || late > Every {
					t.Errorf("a deadline of %s was noticed %s late", want[i], late)
				}
			}
		}
		if clock.running {
			t.Error("the clock runs without a deadline")
		}
		sweeps := a.sweeps
		a.begin(&clock, time.Millisecond)
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if len(a.ended) != 3 || a.sweeps <= sweeps {
			t.Error("the clock did not start again")
		}
		b.begin(&clock, time.Hour)
		clock.Close()
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		sweeps = b.sweeps
		time.Sleep(time.Second)
		if b.sweeps != sweeps {
			t.Error("a closed clock runs")
		}
	})
}

// TestClockRace: what begins while the clock looks is not forgotten.
func TestClockRace(t *testing.T) {
	var clock Clock
	defer clock.Close()
	conns := make([]conn, 4)
	var running sync.WaitGroup
	const each = 2000
	for i := range conns {
		running.Go(func() {
			for j := range each {
				conns[i].begin(&clock, time.Duration(j%3)*time.Millisecond)
				if j%50 == 0 {
					time.Sleep(Every)
				}
			}
		})
	}
	running.Wait()
	for i := range conns {
		c := &conns[i]
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			c.mu.Lock()
			n := len(c.ended)
			c.mu.Unlock()
			if n == each {
				break
			}
		}
		c.mu.Lock()
		if len(c.ended) != each {
			t.Errorf("%d of %d deadlines were noticed", len(c.ended), each)
		}
		c.mu.Unlock()
	}
}
