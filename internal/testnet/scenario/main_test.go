package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

func TestMain(m *testing.M) {
	testnet.Dispatch(map[string]testnet.Helper{
		"provider": provide, "calls": callAll, "verify": verify, "many": many, "probe": probing, "speak": speak,
		"thrift": thriftCalls, "thriftd": thriftServer, "subscribe": subscribing, "hostile": hostile, "churn": churn, "steady": steady, "stranger": stranger, "leaver": leaver, "export": export, "zookeeper": zkServer, "session": zkClient,
		"plane": plane, "collector": collector, "aeraki": aerakis,
		"kubelet": kubelet, "knock": knock,
	})
	os.Exit(meshtest.Main(m, "sc", "sc2", "sc-sidecar", "sc-reached", "sc-policies"))
}

// provide is the provider's process: provide NAME ADDRESS.
func provide(args []string) error {
	ln, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	return (&dubbotest.Provider{Name: args[0]}).Serve(ln)
}

// callsOf is what the consumer's process is asked to do.
type callsOf struct {
	Target  string
	N       int
	Request dubbotest.Request
	Pause   time.Duration
	Timeout time.Duration
	Raw     bool   // connect only, and tell the addresses
	Value   bool   // the answers' values are told, not compared
	Burst   bool   // all at the same time
	Stop    string // a path: no more are made where a file comes to be, or one has failed
	Depth   int    // so many make N calls each on the connection, at the same time; 0: one
	Grow    string // a path: calls are of a megabyte from when a file comes to be
}

// callsResult is what it saw.
type callsResult struct {
	Answers   map[string]int // by provider, or "status N", "thrown" or "error"
	Errors    []string
	Local     string // the consumer's addresses of its connection
	Remote    string
	Peer      string // the consumer as the provider's accept shows it
	ConnectMs int64
	Said      string // the last answer's value
	// Attachments and Kind are the last answer's.
	Attachments map[string]string
	Kind        byte

	mu *sync.Mutex
}

// callAll is the consumer's process: calls JSON.
func callAll(args []string) error {
	var ask callsOf
	if err := json.Unmarshal([]byte(args[1]), &ask); err != nil {
		return err
	}
	result := callsResult{Answers: map[string]int{}, mu: &sync.Mutex{}}
	start := time.Now()
	c, err := dubbotest.Dial(ask.Target)
	if err != nil {
		result.Errors = append(result.Errors, err.Error())
		return say(args[0], result)
	}
	result.ConnectMs = time.Since(start).Milliseconds()
	defer func() { _ = c.Close() }()
	result.Local, result.Remote = c.Conn().LocalAddr().String(), c.Conn().RemoteAddr().String()
	var all sync.WaitGroup
	for range max(ask.Depth, 1) {
		all.Go(func() { result.calls(c, &ask) })
	}
	all.Wait()
	return say(args[0], result)
}

// calls makes N calls.
func (r *callsResult) calls(c *dubbotest.Client, ask *callsOf) {
	var all sync.WaitGroup
	for i := range ask.N {
		if ask.Stop != "" && r.stops(ask.Stop) {
			break
		}
		if !ask.Burst {
			r.call(c, ask, i)
			continue
		}
		all.Go(func() { r.call(c, ask, i) })
	}
	all.Wait()
}

func (r *callsResult) stops(path string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := os.Stat(path)
	return err == nil || len(r.Errors) > 0
}

// call makes call i and notes what became of it.
func (r *callsResult) call(c *dubbotest.Client, ask *callsOf, i int) {
	text := fmt.Sprint(i)
	if _, err := os.Stat(ask.Grow); err == nil {
		text += strings.Repeat("+", 1<<20)
	}
	a, err := c.Call(ask.Request, []byte(text), ask.Timeout)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.Answers["error"]++
		r.Errors = append(r.Errors, err.Error())
	case a.Status != dubbotest.StatusOK:
		r.Answers[fmt.Sprintf("status %d", a.Status)]++
		r.Errors = append(r.Errors, a.Error)
	case a.Error != "":
		r.Answers["thrown"]++
		r.Errors = append(r.Errors, a.Error)
	case !ask.Value && string(a.Value) != text:
		r.Answers["wrong"]++
	default:
		r.Answers[a.Provider]++
		r.Peer, r.Said = a.Peer, string(a.Value)
		r.Attachments, r.Kind = a.Attachments, a.Kind
	}
	time.Sleep(ask.Pause)
}

// verify is the byte-exactness consumer: verify JSON.
func verify(args []string) error {
	var v dubbotest.Verify
	if err := json.Unmarshal([]byte(args[1]), &v); err != nil {
		return err
	}
	result, err := v.Run(context.Background())
	if err != nil {
		return err
	}
	return say(args[0], result)
}

// mesh is one node with its processes, and the test that it belongs to.
type mesh struct {
	*meshtest.Mesh

	t    *testing.T
	ctx  context.Context //nolint:containedctx // the time limit of the whole test
	tags int
}

// newMesh makes a node whose agent and proxy are not started yet.
func newMesh(t *testing.T) *mesh {
	t.Helper()
	return newNode(t, "sc", 1)
}

// besides is newMesh of a test that waits for a minute or more: such ones run beside each
// other, each with a tag of its own, which TestMain knows.
func besides(t *testing.T, tag string) *mesh {
	t.Helper()
	t.Parallel()
	return newNode(t, tag, 1)
}

// newNode makes one of several nodes.
func newNode(t *testing.T, tag string, number int) *mesh {
	t.Helper()
	m := meshtest.New(t, tag, number, 10*time.Minute)
	return &mesh{Mesh: m, t: t, ctx: m.Ctx}
}

func (m *mesh) must(err error) {
	m.t.Helper()
	m.Must(err)
}

// pod adds a pod that is enrolled when the agent runs.
func (m *mesh) pod(name string, ports ...uint16) *testnet.Pod {
	m.t.Helper()
	return m.Pod(name, ports...)
}

// open is a folder that others may look into.
func (m *mesh) open() string {
	m.t.Helper()
	dir := m.t.TempDir()
	m.must(os.Chmod(dir, 0o755))
	m.must(os.Chmod(filepath.Dir(dir), 0o755))
	return dir
}

// provider starts a provider in a pod and waits until it listens.
func (m *mesh) provider(p *testnet.Pod, name string) *testnet.Process {
	m.t.Helper()
	return m.server(p, "provider", name, 20880)
}

// server starts a helper that is told a name and where to listen, and waits until it
// does.
func (m *mesh) server(p *testnet.Pod, helper, name string, port uint16) *testnet.Process {
	m.t.Helper()
	proc, err := p.StartHelper(helper, name, fmt.Sprintf("[::]:%d", port))
	m.must(err)
	m.eventually(helper+" "+name+" listens", func() bool { return p.Listens(port) })
	return proc
}

// start starts agent and proxy and waits until the pods are enrolled.
func (m *mesh) start(pods ...*testnet.Pod) (agent, proxy *testnet.Process) {
	m.t.Helper()
	return m.Start(pods)
}

// calls runs a consumer in a pod and returns what it saw.
func (m *mesh) calls(p *testnet.Pod, ask callsOf) (result callsResult) {
	m.t.Helper()
	m.launch(p, "calls", &ask)(&result)
	return result
}

// launch starts a helper with a JSON argument and returns a function that waits
// for its end and reads its JSON. Helpers of one pod share a log: a tag tells
// their lines apart.
func (m *mesh) launch(p *testnet.Pod, name string, ask any) func(result any) {
	m.t.Helper()
	arg, err := json.Marshal(ask)
	m.must(err)
	m.tags++
	tag := fmt.Sprintf("%d:", m.tags)
	proc, err := p.StartHelper(name, tag, string(arg))
	m.must(err)
	return func(result any) {
		m.t.Helper()
		select {
		case <-proc.Done():
		case <-m.ctx.Done():
			m.t.Fatalf("helper %s does not end", name)
		}
		out, err := os.ReadFile(proc.LogPath())
		m.must(err)
		for line := range strings.Lines(string(out)) {
			if said, ok := strings.CutPrefix(line, tag); ok {
				m.must(json.Unmarshal([]byte(said), result))
				return
			}
		}
		m.t.Fatalf("helper %s said %q", name, out)
	}
}

// stats asks a provider in its own pod, past the mesh, what it has seen.
func (m *mesh) stats(pod *testnet.Pod) (stats dubbotest.Stats) {
	m.t.Helper()
	r := m.calls(pod, callsOf{Target: "127.0.0.1:20880", N: 1, Timeout: 30 * time.Second, Value: true, Request: method("stats")})
	m.must(json.Unmarshal([]byte(r.Said), &stats))
	return stats
}

// under waits until calls are made.
func (m *mesh) under() {
	m.t.Helper()
	before := m.Sum("istio_requests_total{")
	m.eventually("calls are made", func() bool { return m.Sum("istio_requests_total{") >= before+20 })
}

// say prints a helper's result.
func say(tag string, result any) error {
	b, err := json.Marshal(result)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(os.Stdout, "%s%s\n", tag, b)
	return err
}

// eventually waits for a condition.
func (m *mesh) eventually(what string, ok func() bool) {
	m.t.Helper()
	m.Eventually(what, ok)
}

// counted waits until the samples whose lines hold all the parts sum to want.
func (m *mesh) counted(prefix string, want int, parts ...string) {
	m.t.Helper()
	m.Counted(prefix, want, parts...)
}
