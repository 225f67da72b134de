package peers

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// outbound is the port that steered connections really go to.
const outbound = 15001

// idling is a mesh in which nothing happens for a minute.
type idling struct {
	*meshtest.Mesh

	targets []string
	lonely  *testnet.Pod // whose provider the leavers call, and nobody else
	proxy   *testnet.Process
}

// TestIdle leaves connections of every kind of consumer alone for a minute, all at
// the same time, with a heartbeat each second: to a service whose Java provider
// closes a connection on which it hears nothing for three seconds, to that provider's
// own address, and to a dubbo-go. They are the same connections afterwards, and the
// first call on each is answered. Meanwhile other consumers are killed in mid-call.
func TestIdle(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, "pe2", 2, 10*time.Minute)
	pods := map[kind]*testnet.Pod{
		java33: m.Pod("idle-33"), java32: m.Pod("idle-32"), java26: m.Pod("idle-26"), dubboGo: m.Pod("idle-go"),
	}
	leavers := []*testnet.Pod{m.Pod("leaver-33"), m.Pod("leaver-go")}
	x, waits := newIdling(m, append([]*testnet.Pod{pods[java33], pods[java32], pods[java26], pods[dubboGo]}, leavers...))
	var all []*consumer
	for k, p := range pods {
		all = append(all, consume(m, p, k))
	}
	leaving := []*consumer{consume(m, leavers[0], java33), consume(m, leavers[1], dubboGo)}
	for _, wait := range waits {
		wait()
	}

	reports := map[*consumer]func(context.Context) map[string]report{}
	for _, c := range all {
		reports[c] = c.begin(t, "targets=%s,%s,%s heartbeat=1000 idle=80000 checks=idle", x.targets[0], x.targets[1], x.targets[2])
	}
	x.Eventually("the calls before", func() bool {
		return meshtest.CountLines(x.proxy.Output(), `"dubbo_method":"echo"`) == len(all)*len(x.targets)
	})
	before := map[*consumer]map[netip.AddrPort]uint64{}
	for _, c := range all {
		before[c] = x.steered(c)
	}
	began := time.Now()
	died := x.leave(t, leaving)
	time.Sleep(time.Until(began.Add(time.Minute)))
	for _, c := range all {
		x.same(t, c, before[c], x.steered(c))
	}
	for _, c := range all {
		if r := reports[c](x.Ctx)["idle"]; !r.OK {
			t.Errorf("%s: %s %s", c.kind, r.Detail, r.text())
		}
	}
	died()
}

// newIdling starts providers and mesh; the results wait for the providers.
func newIdling(m *meshtest.Mesh, consumers []*testnet.Pod) (*idling, []func()) {
	java, golang, lonely := m.Pod("quiet-java", port), m.Pod("quiet-go", port), m.Pod("lonely", port)
	_, javaReady := provide(m, java, java33, "-Dprobe.heartbeat=1000")
	_, goReady := provide(m, golang, dubboGo)
	x := &idling{Mesh: m, lonely: lonely, targets: []string{atProvider + portName, java.Addr(port).String(), atVictim + portName}}
	var services []meshtest.Service
	for address, p := range map[string]*testnet.Pod{atProvider: java, atVictim: golang, atMute: lonely} {
		services = append(services, meshtest.Service{
			Name: p.Name, Addresses: []string{address, p.Addresses[0].String()},
			Routes: meshtest.Split(map[string]int{p.Name: 1}), Clusters: map[string][]netip.AddrPort{p.Name: {p.Addr(port)}},
		})
	}
	m.Put(services...)
	_, x.proxy = m.Start(append(consumers, java, golang, lonely))
	return x, []func(){javaReady, goReady}
}

// steered returns the bytes that came on each of a consumer's steered connections,
// by the address of its own end.
func (x *idling) steered(c *consumer) map[netip.AddrPort]uint64 {
	sockets, err := c.proc.Sockets()
	x.Must(err)
	all := map[netip.AddrPort]uint64{}
	for _, s := range sockets {
		if s.Remote.Port() == outbound {
			all[s.Local] = s.Received
		}
	}
	return all
}

// same wants the same connections, and on each the answers of a minute; Dubbo 2.6
// beats only every other second.
func (x *idling) same(t *testing.T, c *consumer, before, after map[netip.AddrPort]uint64) {
	t.Helper()
	const atLeast = 25 * 17 // bytes
	if len(before) < len(x.targets) {
		t.Errorf("%s has %d steered connections to %d targets", c.kind, len(before), len(x.targets))
	}
	for local, received := range before {
		now, lives := after[local]
		if !lives {
			t.Errorf("%s lost the connection from %s", c.kind, local)
		} else if now-received < atLeast {
			t.Errorf("%s got %d bytes in a minute of heartbeats from %s, want %d or more", c.kind, now-received, local, atLeast)
		}
	}
	t.Logf("%s: %d connections through the minute", c.kind, len(before))
}

// leave kills consumers in mid-call. Each request is recorded once, when the provider
// answers: until then the proxy may think that the consumer has closed only its
// side. The result wants that the provider has seen its connections end.
func (x *idling) leave(t *testing.T, leaving []*consumer) (died func()) {
	provider, ready := provide(x.Mesh, x.lonely, dubboGo)
	ready()
	for _, c := range leaving {
		c.begin(t, "target=%s checks=pending calls=%d millis=4000 timeout=20000 retries=0", atMute+portName, pendingCalls)
	}
	x.Must(sleeping(x.Ctx, provider, pendingCalls*len(leaving)))
	if n := x.served(provider); n != len(leaving) {
		t.Errorf("the provider has %d connections of %d consumers", n, len(leaving))
	}
	for _, c := range leaving {
		x.Must(c.proc.Kill())
	}
	killed := time.Now()
	time.Sleep(5 * time.Second)
	for _, c := range leaving {
		agree(t, c.pod.Name, pendingCalls, func() (lines, samples int) {
			return meshtest.CountLines(x.proxy.Output(), `"source_pod":"`+c.pod.Name+`"`, `"dubbo_method":"sleep"`),
				x.Sum("istio_requests_total{", `reporter="source"`, `source_workload="`+c.pod.Name+`"`)
		})
	}
	return func() {
		// They are kept for a minute, for the next consumer of the pod.
		for x.served(provider) > 0 && time.Since(killed) < 80*time.Second {
			time.Sleep(time.Second)
		}
		n := x.served(provider)
		t.Logf("%d connections of killed consumers %v later", n, time.Since(killed).Round(time.Second))
		if n > 0 {
			t.Errorf("the provider still has %d connections of killed consumers", n)
		}
	}
}

// served counts a provider's connections.
func (x *idling) served(provider *testnet.Process) (n int) {
	sockets, err := provider.Sockets()
	x.Must(err)
	for _, s := range sockets {
		if s.Local.Port() == port {
			n++
		}
	}
	return n
}
