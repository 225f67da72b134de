package peers

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// endings ends the providers one after the other, each in its way, under the calls
// of all consumers.
func (x *matrix) endings(t *testing.T, all []*consumer) {
	t.Run("one of two stops", func(t *testing.T) { x.stops(t, all) })
	t.Run("one of two is dead", func(t *testing.T) { x.dead(t, all) })
	t.Run("one of two is killed", func(t *testing.T) { x.killed(t, all) })
	t.Run("killed in mid-call, behind a service", func(t *testing.T) {
		p := x.provider(dubboGo)
		for i := range x.providers {
			if x.providers[i] == p {
				v4, _ := vip(i)
				x.killedInMidCall(t, all, p, v4+portName)
			}
		}
	})
	t.Run("killed in mid-call, at its own address", func(t *testing.T) {
		p := x.provider(java32)
		x.killedInMidCall(t, all, p, p.Addr(port).String())
	})
}

// two returns how a consumer is told of two providers: by their own addresses,
// between which its cluster chooses. A dubbo-go that has one it cannot connect to
// panics, with a mesh or without, so it gets the address of a service of both.
func (x *matrix) two(c *consumer, service int, a, b kind) string {
	if c.kind == dubboGo {
		v4, _ := vip(len(x.providers) + service)
		return v4 + portName
	}
	return fmt.Sprint(x.provider(a).Addr(port), ";", x.provider(b).Addr(port))
}

// steady lets a consumer call for so many ms; the result waits, and wants that no
// call failed and that exactly these providers answered.
func (x *matrix) steady(t *testing.T, c *consumer, ms int, target string) func(answering ...string) {
	t.Helper()
	wait := c.begin(t, "target=%s for=%d checks=steady", target, ms)
	return func(answering ...string) {
		t.Helper()
		r := wait(x.Ctx)["steady"]
		t.Logf("%s to %s: %s %s", c.kind, target, r.Detail, r.text())
		if !r.OK || strings.Contains(r.Detail, "failed") || strings.Count(r.Detail, "provider-") != len(answering) {
			t.Errorf("%s to %s lost calls, or saw others than %v: %s %s", c.kind, target, answering, r.Detail, r.text())
			x.tell(t, c.pod, x.providers...)
		}
		for _, name := range answering {
			if !strings.Contains(r.Detail, name) {
				t.Errorf("%s to %s: %s did not answer", c.kind, target, name)
			}
		}
	}
}

// underWay waits until each of the providers has answered each consumer's calls, of
// which there are some before.
func (x *matrix) underWay(all []*consumer, before map[[2]string]int, providers ...string) {
	x.T.Helper()
	x.Eventually("calls of each consumer to each provider", func() bool {
		now := x.answered()
		for _, c := range all {
			for _, p := range providers {
				pair := [2]string{c.pod.Name, p}
				if now[pair] <= before[pair] {
					return false
				}
			}
		}
		return true
	})
}

// answered counts the calls of "who" by consumer and provider.
func (x *matrix) answered() map[[2]string]int {
	n := map[[2]string]int{}
	for line := range strings.Lines(x.proxy.Output()) {
		if !strings.Contains(line, `"dubbo_method":"who"`) {
			continue
		}
		n[[2]string{field(line, "source_pod"), field(line, "destination_pod")}]++
	}
	return n
}

// field returns a field of a line of JSON.
func field(line, name string) string {
	_, value, _ := strings.Cut(line, `"`+name+`":"`)
	value, _, _ = strings.Cut(value, `"`)
	return value
}

// stops ends one of two providers as Kubernetes does: none of the calls fails, and
// the other provider takes them. A call that meets the very end is tried again; Dubbo
// 2.6 does so only between two addresses.
func (x *matrix) stops(t *testing.T, all []*consumer) {
	v4, _ := vip(len(x.providers))
	before := x.answered()
	var waits []func(...string)
	for _, c := range all {
		target := v4 + portName
		if c.kind == java26 {
			target = x.two(c, 0, java33, java32)
		}
		waits = append(waits, x.steady(t, c, 4000, target))
	}
	x.underWay(all, before, "provider-33", "provider-32")
	stopped := x.processes["provider-33"]
	t.Log("SIGTERM at ", time.Now())
	x.Must(stopped.Signal(syscall.SIGTERM))
	for _, wait := range waits {
		wait("provider-33", "provider-32")
	}
	t.Logf("%d calls met the end", meshtest.CountLines(x.proxy.Output(), `"dubbo_method":"who"`, `"destination_pod":"provider-33"`, `"response_flags":"UC"`))
	select {
	case <-stopped.Done():
	case <-x.Ctx.Done():
		t.Error("the provider does not end")
	}
}

// dead calls two addresses of which one is dead from the start.
func (x *matrix) dead(t *testing.T, all []*consumer) {
	v4, _ := vip(len(x.providers))
	for _, target := range []func(*consumer) string{
		func(*consumer) string { return v4 + portName },
		func(c *consumer) string { return x.two(c, 0, java33, java32) },
	} {
		var waits []func(...string)
		for _, c := range all {
			waits = append(waits, x.steady(t, c, 1000, target(c)))
		}
		for _, wait := range waits {
			wait("provider-32")
		}
	}
}

// killed kills one of two providers: what it had in hand goes to the other one.
func (x *matrix) killed(t *testing.T, all []*consumer) {
	before := x.answered()
	var waits []func(...string)
	for _, c := range all {
		waits = append(waits, x.steady(t, c, 3000, x.two(c, 1, java26, dubboGo)))
	}
	x.underWay(all, before, "provider-26", "provider-go")
	x.Must(x.processes["provider-26"].Kill())
	for _, wait := range waits {
		wait("provider-26", "provider-go")
	}
}

// pendingCalls is how many calls of each consumer are in flight when an end dies.
const pendingCalls = 8

// killedInMidCall kills a provider that has calls of every consumer in hand: each
// of them ends once, in an error, at once.
func (x *matrix) killedInMidCall(t *testing.T, all []*consumer, p *testnet.Pod, target string) {
	counts := func(c *consumer) (lines, samples int) {
		return meshtest.CountLines(x.proxy.Output(), `"dubbo_method":"sleep"`, `"source_pod":"`+c.pod.Name+`"`, `"response_flags":"UC"`, `"response_code":80`),
			x.Sum("istio_requests_total{", `reporter="source"`, `dubbo_method="sleep"`, `source_workload="`+c.pod.Name+`"`, `response_flags="UC"`)
	}
	victim := x.processes[p.Name]
	asleep := strings.Count(victim.Output(), "sleeping\n")
	waits := map[*consumer]func(context.Context) map[string]report{}
	before, began := map[*consumer][2]int{}, map[*consumer]time.Time{}
	for _, c := range all {
		lines, samples := counts(c)
		before[c] = [2]int{lines, samples}
		began[c] = time.Now()
		waits[c] = c.begin(t, "target=%s checks=pending calls=%d millis=15000 timeout=15000 retries=0", target, pendingCalls)
	}
	x.Must(sleeping(x.Ctx, victim, asleep+pendingCalls*len(all)))
	x.Must(victim.Kill())
	killed := time.Now()
	for c, wait := range waits {
		got := wait(x.Ctx)["pending"]
		took := began[c].Add(time.Duration(got.MS) * time.Millisecond).Sub(killed)
		if want := fmt.Sprintf("answered 0, failed %d", pendingCalls); got.Detail != want || took > 10*time.Second { // of 15
			t.Errorf("%s: after %v %s %s, want %s at once", c.kind, took, got.Detail, got.text(), want)
		}
		t.Logf("%s: %s after %v", c.kind, got.Detail, took)
		agree(t, string(c.kind), pendingCalls, func() (lines, samples int) {
			lines, samples = counts(c)
			return lines - before[c][0], samples - before[c][1]
		})
	}
}
