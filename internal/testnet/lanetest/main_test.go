package lanetest_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/lanetest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// soak is how many times as many calls the mixed tests make: `make soak`.
var soak = flag.Int("soak", 1, "multiply the calls of the mixed traffic")

// The ports of providers.
const (
	port     = 20880
	bookPort = 20999
)

// vip is what consumers dial, in each family.
const (
	vip4   = "198.51.100.1"
	other4 = "198.51.100.2" // of the second provider alone, where each has its own
	vip6   = "2001:db8:100::1"
)

func TestMain(m *testing.M) {
	testnet.Dispatch(map[string]testnet.Helper{"provide": provide, "consume": consume})
	os.Exit(meshtest.Main(m, "la"))
}

// enter moves this process into a cgroup; "" is none.
func enter(dir string) error {
	if dir == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o600)
}

// provide is a provider's process: provide NUMBER MOST CGROUP.
func provide(args []string) error {
	if err := enter(args[2]); err != nil {
		return err
	}
	number, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	most, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", fmt.Sprint("[::]:", port))
	if err != nil {
		return err
	}
	book, err := net.Listen("tcp", fmt.Sprint("[::]:", bookPort))
	if err != nil {
		return err
	}
	return (&lanetest.Provider{Number: byte(number), Most: most}).Serve(l, book)
}

// consume is the consumers' process: consume TAG JSON CGROUP.
func consume(args []string) error {
	if err := enter(args[2]); err != nil {
		return err
	}
	var k lanetest.Consumer
	if err := json.Unmarshal([]byte(args[1]), &k); err != nil {
		return err
	}
	text, err := json.Marshal(k.Run(context.Background()))
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%s%s\n", args[0], text)
	return nil
}

// node is a node with one consumer's pod and some providers.
type node struct {
	*meshtest.Mesh

	consumer  *testnet.Pod
	providers []*testnet.Pod
	processes []*testnet.Process
	agent     *testnet.Process
	proxy     *testnet.Process
	tags      int
	within    map[*testnet.Pod]string // cgroups that processes of a pod enter when they start
}

// newNode starts everything. Most is the size of answers.
func newNode(t *testing.T, providers, most int, limit time.Duration) *node {
	t.Helper()
	n := &node{Mesh: meshtest.New(t, "la", 1, limit)}
	n.consumer = n.Pod("consumer")
	pods := []*testnet.Pod{n.consumer}
	for i := range providers {
		p := n.Pod(fmt.Sprint("provider-", i), port)
		n.providers, n.processes, pods = append(n.providers, p), append(n.processes, nil), append(pods, p)
		n.provide(i, most)
	}
	n.weigh(1, 1)
	var err error
	n.agent, err = n.StartAgent(n.Ctx, "--lane", "on")
	n.Must(err)
	n.proxy, err = n.StartProxy(n.Ctx)
	n.Must(err)
	n.Must(n.WaitEnrolled(n.Ctx, pods...))
	n.Eventually("steering in force", func() bool {
		s, err := n.AgentStatus(n.Ctx)
		return err == nil && s.Generation > 0
	})
	return n
}

// provide starts a provider.
func (n *node) provide(i, most int) {
	n.T.Helper()
	p := n.providers[i]
	proc, err := p.StartHelper("provide", strconv.Itoa(i), strconv.Itoa(most), n.within[p])
	n.Must(err)
	n.processes[i] = proc
	n.Eventually("a provider listens", func() bool { return p.Listens(bookPort) && p.Listens(port) })
}

// retried is what keeps the calls of a name on the proxy.
const retried = `, retry_policy: {retry_on: retriable-status-codes, retriable_status_codes: [503], num_retries: 1}`

// weigh shares the calls out to the providers by weights; a provider of weight 0, or of none,
// gets no call.
func (n *node) weigh(weights ...int) {
	n.T.Helper()
	clusters := map[string][]netip.AddrPort{}
	var shares []string
	for i, w := range weights {
		if w == 0 || i >= len(n.providers) {
			continue
		}
		name := fmt.Sprint("p", i)
		clusters[name] = []netip.AddrPort{n.providers[i].Addr(port)}
		shares = append(shares, fmt.Sprintf("{name: %s, weight: %d}", name, w))
	}
	to := "weighted_clusters: {clusters: [" + strings.Join(shares, ", ") + "]}"
	n.Put(meshtest.Service{
		Name: "mixed", Addresses: []string{vip4, vip6}, Clusters: clusters,
		Routes: `[{match: {prefix: /, headers: [{name: method, string_match: {exact: ` + lanetest.Held + `}}]}, route: {` + to + retried + `}},` +
			`{match: {prefix: /}, route: {` + to + `}}]`,
	})
}

// apart gives each of two providers an address of its own: vip4 and other4.
func (n *node) apart() {
	n.T.Helper()
	var all []meshtest.Service
	for i, at := range []string{vip4, other4} {
		name := fmt.Sprint("p", i)
		all = append(all, meshtest.Service{
			Name: name, Addresses: []string{at}, Routes: meshtest.Split(map[string]int{name: 1}),
			Clusters: map[string][]netip.AddrPort{name: {n.providers[i].Addr(port)}},
		})
	}
	before, err := n.ProxyStatus(n.Ctx)
	n.Must(err)
	n.Put(all...)
	n.Eventually("the steering of both", func() bool {
		s, err := n.ProxyStatus(n.Ctx)
		a, err2 := n.AgentStatus(n.Ctx)
		return err == nil && err2 == nil && s.Generation > before.Generation && a.Generation > 1
	})
}

// consume lets consumers run; the result waits for what came of it.
func (n *node) consume(k lanetest.Consumer) func() lanetest.Result {
	n.T.Helper()
	proc := n.launch(k)
	return n.result(proc, fmt.Sprintf("%d:", n.tags))
}

// result waits for what consumers say behind their tag.
func (n *node) result(proc *testnet.Process, tag string) func() lanetest.Result {
	return func() (r lanetest.Result) {
		n.T.Helper()
		n.Must(proc.Wait(n.Ctx))
		for line := range strings.Lines(proc.Output()) {
			if said, ok := strings.CutPrefix(line, tag); ok {
				n.Must(json.Unmarshal([]byte(said), &r))
				return r
			}
		}
		n.T.Fatalf("the consumers said %q", proc.Output())
		return r
	}
}

// launch starts consumers.
func (n *node) launch(k lanetest.Consumer) *testnet.Process {
	n.T.Helper()
	k.Providers = len(n.providers)
	if k.Silence == 0 {
		k.Silence = time.Minute
	}
	text, err := json.Marshal(k)
	n.Must(err)
	n.tags++
	proc, err := n.consumer.StartHelper("consume", fmt.Sprintf("%d:", n.tags), string(text), n.within[n.consumer])
	n.Must(err)
	return proc
}

// book reads what a provider has served, past the mesh.
func (n *node) book(i int) (b lanetest.Book) {
	n.T.Helper()
	c, err := n.providers[i].DialContext(n.Ctx, "tcp", fmt.Sprint("127.0.0.1:", bookPort))
	n.Must(err)
	defer c.Close()
	text, err := io.ReadAll(c)
	n.Must(err)
	n.Must(json.Unmarshal(text, &b))
	return b
}

// lanes lists them.
func (n *node) lanes() (list admin.LaneList) {
	n.T.Helper()
	client := admin.NewClient(admin.ProxySocket(n.StateDir()))
	defer client.Close()
	n.Must(client.Get(n.Ctx, admin.PathLanes, &list))
	return list
}

// choose says how lanes are on this node.
func (n *node) choose(mode string) (now admin.NodeLanes) {
	n.T.Helper()
	client := admin.NewClient(admin.AgentSocket(n.StateDir()))
	defer client.Close()
	n.Must(client.Post(n.Ctx, admin.PathNodeLanes, admin.LaneChoice{Mode: mode}, &now))
	return now
}

// served waits until the providers together have served so many calls, each once, and
// nothing else.
func (n *node) served(calls, oneWays int) {
	n.T.Helper()
	var all []lanetest.Book
	sum := func() (c, o int) {
		all = nil
		for i := range n.providers {
			b := n.book(i)
			all, c, o = append(all, b), c+b.Calls, o+b.OneWays
		}
		return c, o
	}
	c, o := sum()
	for end := time.Now().Add(30 * time.Second); (c < calls || o < oneWays) && time.Now().Before(end); c, o = sum() {
		time.Sleep(50 * time.Millisecond)
	}
	if c != calls || o != oneWays {
		n.T.Errorf("%d calls and %d one-way calls were served, want %d and %d", c, o, calls, oneWays)
	}
	for i, b := range all {
		if b.Doubled > 0 || len(b.Errors) > 0 {
			n.T.Errorf("provider %d: %d calls twice; errors %q", i, b.Doubled, b.Errors)
		}
		for j := range i {
			for conn, set := range b.Seen {
				if twice := set.Both(all[j].Seen[conn]); twice > 0 {
					n.T.Errorf("%d calls of connection %d were served by provider %d and by %d", twice, conn, i, j)
				}
			}
		}
	}
}

// recorded waits until so many calls are counted, in the lane and past it, and none of them
// as one that was not answered.
func (n *node) recorded(calls int) {
	n.T.Helper()
	n.Counted("istio_requests_total{", calls, `reporter="source"`, `source_workload="consumer"`)
	n.Counted("istio_requests_total{", calls, `reporter="source"`, `source_workload="consumer"`, `response_flags="-"`)
}

// rested waits until no lane has anything in flight.
func (n *node) rested() {
	n.T.Helper()
	n.Eventually("nothing is in flight", func() bool {
		for _, l := range n.lanes().Items {
			if l.InFlight > 0 {
				return false
			}
		}
		return true
	})
}

// took is how many calls have taken the lane both ways.
func (n *node) took() int {
	n.T.Helper()
	return n.Sum("dubway_lane_calls_total")
}
