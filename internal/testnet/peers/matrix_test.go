package peers

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// checksOf is what a consumer checks with a provider. Dubbo 2.6 has no futures and
// no way to give answers any attachments; dubbo-go's $echo names a parameter type that no Java
// has, and a second try of a call that it timed out has no time limit at all.
func checksOf(from, to kind) string {
	switch {
	case from == java26:
		return "sizes,who,group,attachments,checked,runtime,pipelined,oneway,generic,echo,timeout,version"
	case from.java() && to == java26:
		return "sizes,who,group,checked,runtime,async,oneway,generic,echo,timeout,version"
	case from.java() && to == java33: // 3.2.16 cannot call back, without a mesh either
		return "callback,sizes,who,group,attachments,checked,runtime,unknown,future,async,pipelined,oneway,generic,echo,timeout,version"
	case from.java():
		return "sizes,who,group,attachments,checked,runtime,unknown,future,async,pipelined,oneway,generic,echo,timeout,version"
	case to == dubboGo:
		return "sizes,who,group,attachments,checked,runtime,pipelined,generic,version,echo"
	case to == java26:
		return "sizes,who,group,attachments,checked,runtime,generic,version"
	}
	return "sizes,who,group,attachments,checked,runtime,pipelined,generic,version"
}

// matrix is a mesh with a provider of each kind.
type matrix struct {
	*meshtest.Mesh

	providers []*testnet.Pod
	kinds     map[string]kind // of each provider
	processes map[string]*testnet.Process
	proxy     *testnet.Process
}

// vip returns the addresses of provider i's service, which no device has. Those past
// the last one are of services with two providers: javas and mixed.
func vip(i int) (v4, v6 string) {
	return fmt.Sprintf("198.51.100.%d", i+1), fmt.Sprintf("2001:db8:100::%d", i+1)
}

// newMatrix starts providers and mesh, with lanes or without; the pods of consumers are made
// before.
func newMatrix(m *meshtest.Mesh, lane string, consumers []*testnet.Pod) *matrix {
	x := &matrix{Mesh: m, kinds: map[string]kind{}, processes: map[string]*testnet.Process{}}
	var waits []func()
	for name, k := range map[string]kind{
		"provider-33": java33, "provider-32": java32, "provider-26": java26, "provider-go": dubboGo,
	} {
		p := m.Pod(name, port)
		x.providers, x.kinds[name] = append(x.providers, p), k
		process, ready := provide(m, p, k)
		x.processes[name] = process
		waits = append(waits, ready)
	}
	slices.SortFunc(x.providers, func(a, b *testnet.Pod) int { return strings.Compare(a.Name, b.Name) })
	var services []meshtest.Service
	for i, p := range x.providers {
		v4, v6 := vip(i)
		both := []netip.AddrPort{p.Addr(port), p.Addr6(port)}
		services = append(services, meshtest.Service{
			Name: p.Name, Addresses: []string{v4, v6, p.Addresses[0].String()},
			Routes: meshtest.Split(map[string]int{p.Name: 1}), Clusters: map[string][]netip.AddrPort{p.Name: both},
		})
	}
	for i, kinds := range [][]kind{{java33, java32}, {java26, dubboGo}} {
		name := []string{"javas", "mixed"}[i]
		v4, _ := vip(len(x.providers) + i)
		services = append(services, meshtest.Service{
			Name: name, Addresses: []string{v4}, Routes: meshtest.Split(map[string]int{name: 1}),
			Clusters: map[string][]netip.AddrPort{name: {x.provider(kinds[0]).Addr(port), x.provider(kinds[1]).Addr(port)}},
		})
	}
	m.Put(services...)
	x.start(lane, slices.Concat(consumers, x.providers))
	for _, wait := range waits {
		wait()
	}
	return x
}

// provider returns the provider of a kind.
func (x *matrix) provider(k kind) *testnet.Pod {
	for _, p := range x.providers {
		if x.kinds[p.Name] == k {
			return p
		}
	}
	return nil
}

// TestMatrix takes every pair of peers through the mesh: over IPv4 (Go), v4-mapped
// addresses (Java), IPv6, and a provider's own address as a registry tells it. Then
// the providers end.
func TestMatrix(t *testing.T) {
	m := meshtest.New(t, "pe", 1, 10*time.Minute)
	pods := map[kind]*testnet.Pod{}
	for k, name := range map[kind]string{
		java33: "consumer-33", java32: "consumer-32", java26: "consumer-26", dubboGo: "consumer-go",
	} {
		pods[k] = m.Pod(name)
	}
	plain := m.Pod("consumer-v4")
	consumers := slices.AppendSeq([]*testnet.Pod{plain}, maps.Values(pods))
	x := newMatrix(m, "off", consumers)
	var all []*consumer
	for k, pod := range pods {
		all = append(all, consume(m, pod, k))
	}
	t.Run("pairs", func(t *testing.T) {
		for _, c := range all {
			t.Run(string(c.kind), func(t *testing.T) {
				t.Parallel()
				x.pairs(t, c)
			})
		}
		t.Run("java over plain IPv4", func(t *testing.T) {
			t.Parallel()
			c := consume(m, plain, java33, "-Djava.net.preferIPv4Stack=true")
			for i, p := range x.providers {
				v4, _ := vip(i)
				x.checkf(t, c, p, "target=%s checks=who,sizes", v4+portName)
			}
		})
	})
	x.endings(t, all)
	x.recorded()
}

// pairs runs one consumer against every provider.
func (x *matrix) pairs(t *testing.T, c *consumer) {
	for i, p := range x.providers {
		v4, v6 := vip(i)
		target, to := v4+portName, x.kinds[p.Name]
		x.checkf(t, c, p, "target=%s checks=%s", target, checksOf(c.kind, to))
		if to == java33 || to == dubboGo {
			x.checkf(t, c, p, "target=%s checks=everysize", target)
		}
		x.checkf(t, c, p, "target=%s checks=who,sizes", p.Addr(port))
		if c.kind == java26 {
			continue // it cannot read an IPv6 address in a URL
		}
		x.checkf(t, c, p, "target=[%s]%s checks=who,sizes", v6, portName)
		if c.kind == dubboGo {
			x.checkf(t, c, p, "target=%s timeout=1000 retries=0 checks=timeout", target)
			continue
		}
		if to == java33 || to == java32 {
			x.checkf(t, c, p, "target=%s serialization=fastjson2 checks=%s", target, checksOf(c.kind, to))
		}
	}
}

// checkf gives a consumer a job with the provider's name, and wants all of its
// checks to pass.
func (x *matrix) checkf(t *testing.T, c *consumer, p *testnet.Pod, format string, args ...any) {
	t.Helper()
	job := "timeout=20000 " + fmt.Sprintf(format, args...) // the last one of a name counts
	start := time.Now()
	reports := c.do(x.Ctx, t, "name=%s %s", p.Name, job)
	_, names, _ := strings.Cut(job, "checks=")
	for name := range strings.SplitSeq(names, ",") {
		if r, done := reports[name]; !done || !r.OK {
			t.Errorf("%s to %s, %s: %s failed after %d ms: %s %s", c.kind, p.Name, job, name, r.MS, r.Detail, r.text())
			x.tell(t, c.pod, p)
		}
	}
	t.Logf("%s to %s: %d checks in %d ms (%s)", c.kind, p.Name, len(reports), time.Since(start).Milliseconds(), job)
}

// tell shows the records of a pod's calls that end otherwise than with a value, and
// the last ones.
func (x *matrix) tell(t *testing.T, from *testnet.Pod, to ...*testnet.Pod) {
	t.Helper()
	var mine []string
	for line := range strings.Lines(x.proxy.Output()) {
		for _, p := range to {
			if strings.Contains(line, `"source_pod":"`+from.Name+`"`) && strings.Contains(line, `"destination_pod":"`+p.Name+`"`) {
				mine = append(mine, line)
			}
		}
	}
	for i, line := range mine {
		if i >= len(mine)-5 || !strings.Contains(line, `"dubbo_result":"value"`) && !strings.Contains(line, `"dubbo_result":"exception"`) {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// recorded checks that metric and log agree on all that was said.
func (x *matrix) recorded() {
	x.T.Helper()
	lines, lost, calls := 0, 0, 0
	defer func() { x.T.Logf("%d calls by the metric, %d by the log, %d too fast for that", calls, lines, lost) }()
	x.Eventually("the log", func() bool {
		lines, lost = meshtest.CountLines(x.proxy.Output(), `"dubbo_method"`), x.Sum("dubway_access_log_dropped_total")
		calls = x.Sum("istio_requests_total{", `reporter="source"`)
		return lines > 5000 && lines+lost == calls
	})
}
