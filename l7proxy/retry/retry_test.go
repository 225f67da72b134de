package retry

import (
	"regexp"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

func TestAnswer(t *testing.T) {
	all := snapshot.RetryReset | snapshot.RetryTimeout | snapshot.RetryError | snapshot.RetryUnavailable
	timeouts := []*regexp.Regexp{regexp.MustCompile(`^(?:.*TimeoutException)$`)}
	for _, tt := range []struct {
		policy snapshot.Retry
		status byte
		class  string
		want   bool
	}{
		{snapshot.Retry{On: all}, 20, "", false},
		{snapshot.Retry{On: all}, 20, "java.lang.RuntimeException", false},
		{snapshot.Retry{On: all}, 40, "", false},
		{snapshot.Retry{On: all}, 60, "", false},
		{snapshot.Retry{On: snapshot.RetryError}, 80, "", true},
		{snapshot.Retry{On: snapshot.RetryError}, 70, "", true},
		{snapshot.Retry{On: snapshot.RetryError}, 100, "", false},
		{snapshot.Retry{On: snapshot.RetryUnavailable}, 100, "", true},
		{snapshot.Retry{On: snapshot.RetryUnavailable}, 31, "", true},
		{snapshot.Retry{On: snapshot.RetryUnavailable | snapshot.RetryReset}, 80, "", false},
		{snapshot.Retry{Statuses: []byte{60}}, 60, "", true},
		{snapshot.Retry{Statuses: []byte{60}}, 80, "", false},
		{snapshot.Retry{Exceptions: timeouts}, 20, "org.x.TimeoutException", true},
		{snapshot.Retry{Exceptions: timeouts}, 20, "org.x.TimeoutExceptions", false},
		{snapshot.Retry{Exceptions: timeouts}, 20, "", false},
	} {
		if got := Answer(&tt.policy, tt.status, dubbo.Outcome(tt.status), tt.class); got != tt.want {
			t.Errorf("%+v, status %d, class %q: %v", tt.policy, tt.status, tt.class, got)
		}
	}
}

func TestLost(t *testing.T) {
	for why := range rpc.Why(rpc.Whys) {
		for on, of := range map[snapshot.RetryOn]rpc.Why{
			snapshot.RetryReset: rpc.WhyUpstreamClosed, snapshot.RetryTimeout: rpc.WhyTimeout,
			snapshot.RetryError: rpc.WhyNone, snapshot.RetryUnavailable: rpc.WhyNone,
		} {
			want := why == of && why != rpc.WhyNone
			if got := Lost(&snapshot.Retry{On: on}, why); got != want {
				t.Errorf("on %d, %q: %v", on, why, got)
			}
		}
	}
}

// TestWait: the times spread over a bound that doubles up to the greatest.
func TestWait(t *testing.T) {
	p := &snapshot.Retry{Base: 10 * time.Millisecond, Max: 65 * time.Millisecond}
	for n, bound := range map[uint8]time.Duration{
		1: 10 * time.Millisecond, 2: 20 * time.Millisecond, 3: 40 * time.Millisecond, 4: 65 * time.Millisecond, 200: 65 * time.Millisecond,
	} {
		var longest, sum time.Duration
		const draws = 2000
		for range draws {
			d := Wait(p, n)
			longest, sum = max(longest, d), sum+d
		}
		if longest >= bound || longest < bound*9/10 {
			t.Errorf("before try %d the longest of %d is %s, want just below %s", n, draws, longest, bound)
		}
		if mean := sum / draws; mean < bound*4/10 || mean > bound*6/10 {
			t.Errorf("before try %d the mean is %s of %s", n, mean, bound)
		}
	}
	if d := Wait(&snapshot.Retry{}, 1); d != 0 {
		t.Errorf("%s without a back-off", d)
	}
}

func TestBudget(t *testing.T) {
	var b Budget
	one, two := b.Take(2), b.Take(2)
	if one == nil || two == nil || b.Take(2) != nil || b.Active() != 2 {
		t.Fatalf("%d in flight, want 2", b.Active())
	}
	one.End()
	one.End()
	if b.Active() != 1 || b.Take(2) == nil {
		t.Error("what ended twice counts twice")
	}
	var none *Token
	none.End()
}
