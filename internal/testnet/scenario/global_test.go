package scenario

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// rateLimitPort is where the rate limit service listens.
const rateLimitPort = 8081

// rateLimitService builds the real github.com/envoyproxy/ratelimit (test/ratelimit), once.
var rateLimitService = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	if text, err := exec.Command("make", "-C", root, "build/peers/ratelimit").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the rate limit service: %w\n%s", err, text)
	}
	return filepath.Join(root, "build", "peers", "ratelimit"), nil
})

// rateLimits starts the service in a pod, which is none of the mesh's, with a
// configuration in its own form.
func (m *mesh) rateLimits(p *testnet.Pod, config string) *testnet.Process {
	m.t.Helper()
	binary, err := rateLimitService()
	m.must(err)
	dir := filepath.Join(m.t.TempDir(), "config")
	m.must(os.MkdirAll(dir, 0o755))
	m.must(os.WriteFile(filepath.Join(dir, "limits.yaml"), []byte(config), 0o600))
	proc, err := p.Start(testnet.Command{Path: binary, Args: []string{dir, fmt.Sprintf("0.0.0.0:%d", rateLimitPort)}})
	m.must(err)
	m.eventually("the rate limit service listens", func() bool {
		return p.Do(func() error {
			c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", rateLimitPort), time.Second)
			if err == nil {
				_ = c.Close()
			}
			return err
		}) == nil
	})
	return proc
}

// bystander adds a pod that the mesh does not know.
func (m *mesh) bystander(name string) *testnet.Pod {
	m.t.Helper()
	p, err := m.AddPod(name, nil)
	m.must(err)
	return p
}

// limitsOfShop are what the service allows. A day is longer than the test.
const limitsOfShop = `domain: shop
descriptors:
- key: method
  value: place
  rate_limit: {unit: day, requests_per_unit: 6}
- key: tier
  value: free
  descriptors:
  - key: source_cluster
    rate_limit: {unit: day, requests_per_unit: 3}
`

// TestGlobalLimit: the real rate limit service counts the calls of all pods together, by
// method and by attachment and consumer. What is over a limit is refused, counted and
// logged like what is over a local one; while the service is away calls pass, or do not
// where that is asked for.
func TestGlobalLimit(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	second := m.pod("consumer-2")
	service := m.bystander("ratelimit")
	running := m.rateLimits(service, limitsOfShop)
	table := func(deny bool) []byte {
		return []byte(fmt.Sprintf(globalTable, vip4, deny, v1.Addr(20880).Addr(), service.Addr(rateLimitPort).Addr()))
	}
	m.must(m.PutXDS("global.yaml", table(false)))
	_, proxy := m.start(consumer, second, v1, v2)
	run := &globalRun{m, proxy}

	run.calls(consumer, with(), "place", map[string]int{"v1": 4})
	run.calls(second, with(), "place", map[string]int{"v1": 2, "thrown": 2})
	run.calls(consumer, with(), "find", map[string]int{"v1": 10})
	run.calls(consumer, with("tier", "free"), "find", map[string]int{"v1": 3, "thrown": 7}) // "app.namespace" is that of both pods
	run.calls(second, with("tier", "free"), "find", map[string]int{"thrown": 3})
	run.calls(consumer, with("tier", "gold"), "find", map[string]int{"v1": 3})
	run.results("ok", 4+2+3+3)
	run.results("over_limit", 2+7+3)
	run.results("error", 0)
	run.refused("RL", 2+7+3)
	run.explained(consumer)

	m.must(running.Kill())
	run.calls(consumer, with(), "place", map[string]int{"v1": 5})
	run.results("error", 5)
	run.results("failure_mode_allowed", 5)
	p := &policyRun{mesh: m}
	p.applied(func() { m.must(m.PutXDS("global.yaml", table(true))) })
	run.calls(consumer, with(), "place", map[string]int{"thrown": 5})
	run.calls(consumer, with(), "find", map[string]int{"v1": 5}) // nobody is asked about it
	run.results("error", 10)
	run.results("failure_mode_allowed", 5)
	run.refused("RLSE", 5)
	run.refused("RL", 2+7+3)

	m.rateLimits(service, limitsOfShop) // which counts from nothing
	m.eventually("the service is reached again", func() bool { return strings.Contains(proxy.Output(), "a rate limit service is reached again") })
	run.calls(second, with(), "place", map[string]int{"v1": 6, "thrown": 1})
	run.refused("RL", 2+7+3+1)
	run.observed(second)
}

// globalRun is what TestGlobalLimit has beside its mesh.
type globalRun struct {
	*mesh

	proxy *testnet.Process
}

// calls makes as many calls as are wanted to end in some way.
func (r *globalRun) calls(p *testnet.Pod, ask callsOf, method string, want map[string]int) {
	r.t.Helper()
	for _, n := range want {
		ask.N += n
	}
	ask.Target, ask.Timeout, ask.Request.Method = vip4+":20880", 30*time.Second, method
	got := r.mesh.calls(p, ask)
	if fmt.Sprint(got.Answers) != fmt.Sprint(want) {
		r.t.Errorf("%s of %s: %v, want %v; %v", method, p.Name, got.Answers, want, got.Errors)
	}
	for _, said := range got.Errors {
		if !strings.Contains(said, "a rate limit is reached") && !strings.Contains(said, "the rate limit service does not answer") {
			r.t.Errorf("%s of %s: %q", method, p.Name, said)
		}
	}
}

// results wants a count of what came of questions.
func (r *globalRun) results(result string, want int) {
	r.t.Helper()
	r.counted("dubway_global_rate_limit_total{", want, `filter="envoy.filters.http.ratelimit"`, `stat_prefix="shop"`, `result="`+result+`"`)
}

// refused wants so many refusals with a flag so far, in metrics and log.
func (r *globalRun) refused(flag string, want int) {
	r.t.Helper()
	r.counted(`istio_requests_total{`, want, `reporter="source"`, `response_flags="`+flag+`"`, `dubbo_result="local"`)
	r.eventually(fmt.Sprint(want, " lines of the log"), func() bool {
		return meshtest.CountLines(r.proxy.Output(), `"response_flags":"`+flag+`"`, `"policy":"envoy.filters.http.ratelimit"`) == want
	})
}

// explained: dubwayctl says what the service is asked.
func (r *globalRun) explained(p *testnet.Pod) {
	r.t.Helper()
	out, err := exec.CommandContext(r.ctx, filepath.Join(meshtest.Binaries, "dubwayctl"), "--state-dir", r.StateDir(), "explain",
		"--from", p.Name, "--to", vip4+":20880", "--call", "org.example.Greeter.place", "--attachment", "tier=free").CombinedOutput()
	r.must(err)
	const want = "cluster ratelimit, domain shop: (method=place) (tier=free, source_cluster=consumer." + testnet.Namespace + ")"
	if !strings.Contains(string(out), want) {
		r.t.Errorf("dubwayctl explain does not say %q:\n%s", want, out)
	}
}

// observed: a pod that is only observed is asked about, and never refused.
func (r *globalRun) observed(p *testnet.Pod) {
	r.t.Helper()
	client := admin.NewClient(admin.ProxySocket(r.Node.StateDir()))
	defer client.Close()
	var list admin.ModeList
	r.must(client.Post(r.ctx, admin.PathMode, admin.ModeRequest{Workload: testnet.Namespace + "/" + p.Name, Mode: "observe"}, &list))
	r.calls(p, callsOf{Request: dubbotest.Request{}}, "place", map[string]int{"v1": 4})
	r.results("would_limit", 4)
}

// globalTable has the service's address, failure_mode_deny, v1's address and that of the
// rate limit service. Its timeout is for a machine that does other things too.
const globalTable = `resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: service
  address: {socket_address: {address: "%s", port_value: 20880}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: service
        http_filters:
        - name: envoy.filters.http.ratelimit
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
            domain: shop
            stat_prefix: shop
            timeout: 20s
            failure_mode_deny: %t
            rate_limit_service: {grpc_service: {envoy_grpc: {cluster_name: ratelimit}}, transport_api_version: V3}
        route_config:
          virtual_hosts:
          - name: service
            domains: ["*"]
            rate_limits:
            - actions: [{header_value_match: {descriptor_key: method, descriptor_value: place, headers: [{name: method, string_match: {exact: place}}]}}]
            - actions: [{request_headers: {header_name: tier, descriptor_key: tier}}, {source_cluster: {}}]
            routes: [{match: {prefix: /}, route: {cluster: v1}}]
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: v1
  type: STATIC
  load_assignment: {cluster_name: v1, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "%s", port_value: 20880}}}}]}]}
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: ratelimit
  type: STATIC
  load_assignment: {cluster_name: ratelimit, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "%s", port_value: 8081}}}}]}]}
`
