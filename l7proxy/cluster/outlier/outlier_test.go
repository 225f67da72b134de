package outlier

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// defaults are Envoy's, with everything enforced and any number of ejections.
func defaults() *snapshot.Outlier {
	all := snapshot.Consecutive{Threshold: 5, Enforced: 100}
	return &snapshot.Outlier{
		Interval: 10 * time.Second, BaseEjection: 30 * time.Second, MaxEjection: 300 * time.Second, MaxEjected: 100,
		Errors: all, Unavailable: all, Local: all,
		SuccessRate:       snapshot.SuccessRate{Hosts: 5, Volume: 100, Factor: 1900, Enforced: 100, EnforcedLocal: 100},
		FailurePercentage: snapshot.FailurePercentage{Hosts: 5, Volume: 50, Threshold: 85, Enforced: 100, EnforcedLocal: 100},
	}
}

// bench is a detector with n endpoints.
type bench struct {
	*Detector

	list    []*Monitor
	stats   Stats
	changes atomic.Int32
}

func newBench(t *testing.T, c *snapshot.Outlier, n int) *bench {
	t.Helper()
	b := &bench{}
	b.Detector = New(c, &b.stats, func() { b.changes.Add(1) })
	t.Cleanup(b.Close)
	for i := range n {
		b.list = append(b.list, b.Monitor(address(i)))
	}
	return b
}

func address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 20880)
}

func (b *bench) put(i, n int, o rpc.Outcome) {
	for range n {
		b.list[i].Put(o)
	}
}

// out lists the ejected endpoints.
func (b *bench) out() (list []int) {
	for i, m := range b.list {
		if m.Ejected() {
			list = append(list, i)
		}
	}
	return list
}

func (b *bench) want(t *testing.T, what string, want ...int) {
	t.Helper()
	if got := b.out(); !slices.Equal(got, want) {
		t.Errorf("%s: %v are ejected, want %v", what, got, want)
	}
	if got := int(b.stats.Active.Load()); got != len(want) {
		t.Errorf("%s: %d are counted as ejected, want %d", what, got, len(want))
	}
}

func TestConsecutive(t *testing.T) {
	for _, tt := range []struct {
		name    string
		split   bool
		fill    []rpc.Outcome // four of five
		between rpc.Outcome   // ends the row; OutcomeNone does not
		kind    Kind
	}{
		{"errors", false, []rpc.Outcome{rpc.OutcomeError}, rpc.OutcomeOK, Errors},
		{"errors of all sorts", false, []rpc.Outcome{rpc.OutcomeError, rpc.OutcomeReset, rpc.OutcomeError, rpc.OutcomeUnavailable}, rpc.OutcomeOK, Errors},
		{"what is late or overloaded", false, []rpc.Outcome{rpc.OutcomeUnavailable}, rpc.OutcomeError, Unavailable},
		{"seen from here, not split", false, []rpc.Outcome{rpc.OutcomeUnreachable, rpc.OutcomeReset, rpc.OutcomeTimeout}, rpc.OutcomeOK, Unavailable},
		{"seen from here, split", true, []rpc.Outcome{rpc.OutcomeUnreachable, rpc.OutcomeReset, rpc.OutcomeTimeout}, rpc.OutcomeConnected, Local},
		{"an error is an answer", true, []rpc.Outcome{rpc.OutcomeReset}, rpc.OutcomeError, Local},
		{"errors, split", true, []rpc.Outcome{rpc.OutcomeError}, rpc.OutcomeOK, Errors},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := defaults()
				c.Split = tt.split
				if tt.kind != Errors {
					c.Errors.Threshold = 100
				}
				b := newBench(t, c, 2)
				row := func(n int) {
					for i := range n {
						b.put(0, 1, tt.fill[i%len(tt.fill)])
						b.put(0, 1, rpc.OutcomeNone)
						b.put(1, 1, rpc.OutcomeOK)
					}
				}
				row(4)
				b.put(0, 1, tt.between)
				row(4)
				b.want(t, "after 4 and 4")
				row(1)
				b.want(t, "after the fifth", 0)
				if n := b.stats.Ejections[tt.kind].Load(); n != 1 || b.changes.Load() != 1 {
					t.Errorf("%d ejections for %s and %d changes told, want 1", n, tt.kind, b.changes.Load())
				}
				row(50)
				b.want(t, "after many more", 0)
				if b.changes.Load() != 1 {
					t.Error("an endpoint that is ejected was ejected again")
				}
			})
		})
	}
}

// Without Split a mere connection ends no row; with it failures of one side do not
// count for the other.
func TestOrigins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, defaults(), 2)
		for range 5 {
			b.put(0, 1, rpc.OutcomeConnected)
			b.put(0, 1, rpc.OutcomeReset)
		}
		b.want(t, "resets after connects", 0)

		c := defaults()
		c.Split = true
		b = newBench(t, c, 2)
		for range 4 {
			b.put(0, 1, rpc.OutcomeReset)
		}
		b.put(0, 4, rpc.OutcomeUnavailable) // answers: the way works
		b.put(0, 4, rpc.OutcomeReset)
		b.want(t, "4 of each")
		b.put(0, 1, rpc.OutcomeUnavailable)
		b.want(t, "resets do not interrupt answers", 0)
	})
}

func TestThresholdsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := defaults()
		c.Errors.Threshold, c.Unavailable.Enforced = 0, 0
		b := newBench(t, c, 2)
		b.put(0, 1000, rpc.OutcomeError)
		b.put(1, 1000, rpc.OutcomeUnavailable)
		b.want(t, "a threshold of 0 and an enforcement of 0")
	})
}

// A share of the cases is enforced: 2,000 tries of 30 % are within seven standard
// deviations, 143.
func TestEnforcing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := defaults()
		c.Errors.Enforced = 30
		b := newBench(t, c, 1)
		ejected := 0
		for range 2000 {
			b.put(0, 5, rpc.OutcomeError)
			if b.list[0].Ejected() {
				ejected++
				b.list[0].Checked()
			}
			b.put(0, 1, rpc.OutcomeOK)
		}
		if ejected < 457 || ejected > 743 {
			t.Errorf("%d of 2000 were ejected, want about 600", ejected)
		}
	})
}

// The time grows with each ejection, up to the limit, and shrinks by one step with
// each interval without.
func TestEjectionTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := defaults()
		c.Interval, c.BaseEjection, c.MaxEjection = time.Second, 10*time.Second, 35*time.Second
		b := newBench(t, c, 2)
		time.Sleep(500 * time.Millisecond) // between two sweeps
		for i, want := range []int{10, 20, 30, 35, 35} {
			b.put(0, 5, rpc.OutcomeError)
			b.want(t, "ejected", 0)
			time.Sleep(time.Duration(want) * time.Second)
			b.want(t, fmt.Sprintf("ejection %d, %d s later", i, want), 0)
			time.Sleep(500 * time.Millisecond) // to the next sweep
			synctest.Wait()
			b.want(t, fmt.Sprintf("ejection %d, at the next sweep", i))
			time.Sleep(500 * time.Millisecond)
		}
		if n := b.stats.Ejections[Errors].Load(); n != 5 || b.changes.Load() != 10 {
			t.Errorf("%d ejections and %d changes", n, b.changes.Load())
		}
		time.Sleep(6 * time.Second) // no step is left
		b.put(0, 5, rpc.OutcomeError)
		time.Sleep(11 * time.Second)
		b.want(t, "after a quiet time")
	})
}

func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := defaults()
		c.Interval, c.BaseEjection, c.MaxJitter = time.Second, 10*time.Second, 20*time.Second
		b := newBench(t, c, 200)
		for i := range b.list {
			b.put(i, 5, rpc.OutcomeError)
		}
		var back []int
		for range 31 {
			time.Sleep(time.Second)
			synctest.Wait()
			back = append(back, len(b.list)-len(b.out()))
		}
		if back[8] != 0 || back[19] < 50 || back[19] > 150 || back[30] != 200 {
			t.Errorf("back after each second: %v", back)
		}
	})
}

func TestMaxEjected(t *testing.T) {
	for _, tt := range []struct {
		percent uint32
		always  bool
		of, out int
	}{
		{10, false, 5, 1}, // the share is that before the ejection
		{10, false, 10, 1},
		{10, false, 11, 2},
		{50, false, 4, 2},
		{0, false, 5, 0},
		{0, true, 5, 1},
		{100, false, 5, 5},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := defaults()
				c.MaxEjected, c.AlwaysOne = tt.percent, tt.always
				b := newBench(t, c, tt.of)
				for i := range tt.of {
					b.put(i, 5, rpc.OutcomeError)
				}
				if got := len(b.out()); got != tt.out {
					t.Errorf("%d are ejected, want %d", got, tt.out)
				}
				if n := int(b.stats.Overflows.Load()); n != tt.of-tt.out {
					t.Errorf("%d overflows, want %d", n, tt.of-tt.out)
				}
			})
		})
	}
}

// TestSucceeded: what went well elsewhere counts like what went well here: errors around it
// are not in a row, and it is a part of the volume.
func TestSucceeded(t *testing.T) {
	b := newBench(t, defaults(), 2)
	for i, m := range b.list {
		b.put(i, 4, rpc.OutcomeError)
		m.Succeeded(uint64(1000 * (1 - i))) // of the second one none
		b.put(i, 4, rpc.OutcomeError)
	}
	b.want(t, "eight errors", 1)
	if n := b.list[0].external.total.Load(); n != 1008 {
		t.Errorf("%d requests are counted", n)
	}
	(*Monitor)(nil).Succeeded(1) // judges nobody
}
