package peers

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

const zookeeperPort = 2181

// registry is a mesh with a ZooKeeper beside it.
type registry struct {
	*meshtest.Mesh

	zookeeper *testnet.Pod // no workload of the mesh
	first     *testnet.Pod // providers
	second    *testnet.Pod
	home      string // of the peers: Dubbo keeps what it learnt there
	url       string
	proxy     *testnet.Process
}

// TestRegistry is a real ZooKeeper in which real providers register and consumers
// find them: one kind by applications, with a call of the provider's MetadataService,
// the other by interfaces. Nobody may notice whether ZooKeeper's own address is not
// steered, as it never should be, or is by mistake, like that of a Dubbo service.
func TestRegistry(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, "pe3", 3, 10*time.Minute)
	names := []string{"plain-33", "plain-32", "mistaken-33", "mistaken-32"}
	pods := map[string]*testnet.Pod{}
	for _, name := range names {
		pods[name] = m.Pod(name)
	}
	x := newRegistry(m, pods)
	first := x.provide(x.first, java33)
	plain := []*consumer{x.consume(pods["plain-33"], java33), x.consume(pods["plain-32"], java32)}
	t.Run("not steered", func(t *testing.T) {
		for _, c := range plain {
			x.calls(t, c)
			x.relayed(t, c.pod, false)
		}
		x.relayed(t, x.first, false)
	})
	t.Run("steered by mistake", func(t *testing.T) {
		x.mistake()
		var waits []func(...string)
		for _, c := range plain { // they hear of the second provider while they call
			waits = append(waits, x.steady(t, c, 30000))
		}
		x.provide(x.second, java32)
		x.relayed(t, x.second, true)
		mistaken := []*consumer{x.consume(pods["mistaken-33"], java33), x.consume(pods["mistaken-32"], java32)}
		for _, c := range mistaken {
			waits = append(waits, x.steady(t, c, 15000))
		}
		for _, wait := range waits {
			wait("first", "second")
		}
		for _, c := range mistaken {
			x.relayed(t, c.pod, true)
		}
		waits = nil
		for _, c := range slices.Concat(plain, mistaken) { // and that the first is gone
			waits = append(waits, x.steady(t, c, 12000))
		}
		time.Sleep(6 * time.Second)
		x.Must(first.Signal(syscall.SIGTERM))
		for _, wait := range waits {
			wait("first", "second")
		}
		for _, c := range slices.Concat(plain, mistaken) {
			x.steady(t, c, 1000)("second")
		}
	})
}

// provide starts a provider that registers.
func (x *registry) provide(p *testnet.Pod, k kind) *testnet.Process {
	x.T.Helper()
	process, ready := provide(x.Mesh, p, k, append(x.flags(p), x.url)...)
	ready()
	return process
}

// consume starts a consumer, the newer by applications and the older by interfaces.
func (x *registry) consume(p *testnet.Pod, k kind) *consumer {
	x.T.Helper()
	step := map[kind]string{java33: "FORCE_APPLICATION", java32: "FORCE_INTERFACE"}[k]
	return consume(x.Mesh, p, k, append(x.flags(p), "-Ddubbo.application.service-discovery.migration="+step)...)
}

// flags are those of every peer: ZooKeeper's client would ask for the name of the
// server for its SASL, and the pods have no DNS.
func (x *registry) flags(p *testnet.Pod) []string {
	return []string{"-Duser.home=" + filepath.Join(x.home, p.Name), "-Dzookeeper.sasl.client=false"}
}

// calls makes calls of the only provider, and counts them.
func (x *registry) calls(t *testing.T, c *consumer) {
	t.Helper()
	for check, r := range c.do(x.Ctx, t, "registry=%s name=%s checks=who,group,attachments,sizes,oneway,pipelined", x.url, x.first.Name) {
		if !r.OK {
			t.Errorf("%s: %s: %s %s", c.kind, check, r.Detail, r.text())
		}
	}
	// No provider ever confirmed the name of the one-way method: it is no label.
	for method, n := range map[string]int{"who": 2, "attach": 1, "echo": 28, "later": 200} {
		agree(t, string(c.kind)+" "+method, n, func() (lines, samples int) {
			return meshtest.CountLines(x.proxy.Output(), `"source_pod":"`+c.pod.Name+`"`, `"destination_pod":"first"`, `"dubbo_method":"`+method+`"`),
				x.Sum("istio_requests_total{", `reporter="source"`, `source_workload="`+c.pod.Name+`"`, `dubbo_method="`+method+`"`)
		})
	}
	asked := meshtest.CountLines(x.proxy.Output(), `"source_pod":"`+c.pod.Name+`"`, `"dubbo_interface":"org.apache.dubbo.metadata.MetadataService`)
	if (asked > 0) != (c.kind == java33) {
		t.Errorf("%s asked %d times for the provider's metadata", c.kind, asked)
	}
}

// steady lets a consumer call for so many ms; the result waits, and wants that no call
// failed and that exactly these providers answered. Where it has not heard of one yet, as
// on a busy machine, it goes on.
func (x *registry) steady(t *testing.T, c *consumer, ms int) func(answering ...string) {
	t.Helper()
	begin := func() func(context.Context) map[string]report {
		return c.begin(t, "registry=%s for=%d checks=steady", x.url, ms)
	}
	wait := begin()
	return func(answering ...string) {
		t.Helper()
		missing := slices.Clone(answering)
		for range 10 {
			r := wait(x.Ctx)["steady"]
			t.Logf("%s: %s %s", c.pod.Name, r.Detail, r.text())
			right := r.OK && !strings.Contains(r.Detail, "failed")
			for _, name := range []string{"first", "second"} {
				if strings.Contains(r.Detail, name+"=") {
					right = right && slices.Contains(answering, name)
					missing = slices.DeleteFunc(missing, func(m string) bool { return m == name })
				}
			}
			if !right {
				t.Errorf("%s lost calls, or saw others than %v: %s %s", c.pod.Name, answering, r.Detail, r.text())
			}
			if !right || len(missing) == 0 {
				return
			}
			wait = begin()
		}
		t.Errorf("%s never saw %v", c.pod.Name, missing)
	}
}

// relayed tells whether a pod's connection to ZooKeeper goes through the proxy.
func (x *registry) relayed(t *testing.T, p *testnet.Pod, want bool) {
	t.Helper()
	n := x.Sum("istio_tcp_connections_opened_total{", `source_workload="`+p.Name+`"`)
	if (n > 0) != want {
		t.Errorf("%d opaque connections of %s through the proxy, want some: %v", n, p.Name, want)
	}
}

// mistake configures ZooKeeper's address as well, and waits until it is steered.
func (x *registry) mistake() {
	before, err := x.AgentStatus(x.Ctx)
	x.Must(err)
	x.put(true)
	x.Eventually("another generation", func() bool {
		now, err := x.AgentStatus(x.Ctx)
		return err == nil && now.Generation > before.Generation
	})
}

func newRegistry(m *meshtest.Mesh, consumers map[string]*testnet.Pod) *registry {
	m.T.Helper()
	x := &registry{Mesh: m, home: filepath.Join(m.StateDir(), "home"), first: m.Pod("first", port), second: m.Pod("second", port)}
	x.addZooKeeper()
	x.put(false)
	pods := []*testnet.Pod{x.first, x.second}
	for _, p := range consumers {
		pods = append(pods, p)
	}
	_, x.proxy = m.Start(pods)
	x.serveZooKeeper()
	return x
}

// addZooKeeper adds the pod of the registry.
func (x *registry) addZooKeeper() {
	x.T.Helper()
	var err error
	x.zookeeper, err = x.AddPod("zookeeper", nil)
	x.Must(err)
	x.url = fmt.Sprint("zookeeper://", x.zookeeper.Addr(zookeeperPort))
}

// serveZooKeeper starts the registry in its pod.
func (x *registry) serveZooKeeper() {
	x.T.Helper()
	java, err := exec.LookPath("java")
	x.Must(err)
	server, err := x.zookeeper.Start(testnet.Command{Path: java, Args: []string{
		"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m", "-Dzookeeper.admin.enableServer=false",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", filepath.Join(built, string(java33), "lib", "*"),
		"org.apache.zookeeper.server.ZooKeeperServerMain", fmt.Sprint(zookeeperPort), filepath.Join(x.StateDir(), "zookeeper"),
	}})
	x.Must(err)
	x.Must(server.WaitFor(x.Ctx, "its port", func() bool { return x.zookeeper.Listens(zookeeperPort) }))
}

// put configures the providers' own addresses, as they are registered, and if
// there is a mistake ZooKeeper's.
func (x *registry) put(mistake bool) {
	x.T.Helper()
	var services []meshtest.Service
	for _, p := range []*testnet.Pod{x.first, x.second} {
		services = append(services, meshtest.Service{
			Name: p.Name, Addresses: []string{p.Addresses[0].String()},
			Routes: meshtest.Split(map[string]int{p.Name: 1}), Clusters: map[string][]netip.AddrPort{p.Name: {p.Addr(port)}},
		})
	}
	if mistake {
		z := x.zookeeper
		services = append(services, meshtest.Service{
			Name: z.Name, Addresses: []string{z.Addresses[0].String()}, Port: zookeeperPort,
			Routes: meshtest.Split(map[string]int{z.Name: 1}), Clusters: map[string][]netip.AddrPort{z.Name: {z.Addr(zookeeperPort)}},
		})
	}
	x.Put(services...)
}
