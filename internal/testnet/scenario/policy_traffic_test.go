package scenario

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// policyRun runs the examples of docs/policies.md, one after the other, in one mesh.
type policyRun struct {
	*mesh

	examples                           map[string]string
	consumer, admin, v1, v2, audit     *testnet.Pod
	ratelimit                          *testnet.Pod
	second                             *testnet.Process // v2's
	proxy                              *testnet.Process
	loads                              int
	made                               int // calls of all examples
	retried, refused, inverted, copied int // what the metrics say of the examples before
}

// policyRuns is what is done with each example.
var policyRuns = []struct {
	name string
	run  func(p *policyRun)
}{
	{"service", (*policyRun).service},
	{"timeouts", (*policyRun).timeouts},
	{"retries", (*policyRun).retries},
	{"retry-budget", (*policyRun).retryBudget},
	{"attachments", (*policyRun).attachments},
	{"answers", (*policyRun).answers},
	{"mirroring", (*policyRun).mirroring},
	{"access", (*policyRun).access},
	{"limits", (*policyRun).limits},
	{"global-limits", (*policyRun).globalLimits},
	{"faults", (*policyRun).faults},
	{"breakers", (*policyRun).breakers},
	{"outliers", (*policyRun).outliers},
	{"health", (*policyRun).health},
	{"hashing", (*policyRun).hashing},
	{"failover", (*policyRun).failover},
	{"distribution", (*policyRun).distribution},
	{"zones", (*policyRun).zones},
	{"slow-start", (*policyRun).slowStart},
	{"choice", (*policyRun).choice},
}

// TestPolicyTraffic loads each example of docs/policies.md and makes calls by it:
// what the consumer gets, what the providers counted, metrics and log agree.
func TestPolicyTraffic(t *testing.T) {
	m := besides(t, "sc-policies")
	p := &policyRun{
		mesh: m, examples: policyExamples(t), consumer: m.pod("consumer"), admin: m.pod("admin"),
		v1: m.pod("provider-1", 20880), v2: m.pod("provider-2", 20880), audit: m.pod("audit", 20880),
		ratelimit: m.bystander("ratelimit"),
	}
	m.provider(p.v1, "v1")
	p.second = m.provider(p.v2, "v2")
	m.provider(p.audit, "audit")
	p.put("service")
	_, p.proxy = m.Start([]*testnet.Pod{p.consumer, p.admin, p.v1, p.v2, p.audit}, "--locality", "cn/a")
	for _, one := range policyRuns {
		start := time.Now()
		p.load(one.name)
		one.run(p)
		m.counted(`istio_requests_total{`, p.made, `reporter="source"`)
		m.eventually("a log line for each call", func() bool { return countLines(p.proxy.Output(), `"dubbo_method"`) == p.made })
		if t.Failed() {
			t.Fatalf("example %s failed", one.name)
		}
		t.Logf("%s: %d ms", one.name, time.Since(start).Milliseconds())
	}
}

// put writes an example, with the pods' addresses.
func (p *policyRun) put(name string, changes ...string) {
	p.t.Helper()
	text := compose(p.t, p.examples["service"], p.examples[name])
	text = strings.NewReplacer(
		"10.96.0.20", vip4, "10.244.1.11", p.v1.Addresses[0].String(),
		"10.244.1.12", p.v2.Addresses[0].String(), "10.244.1.13", p.audit.Addresses[0].String(),
		"10.244.1.14", p.ratelimit.Addresses[0].String(),
	).Replace(text)
	p.must(p.PutXDS("service.yaml", []byte(strings.NewReplacer(changes...).Replace(text))))
}

// load puts an example into use, with changes to its text. Nothing is left of the one
// before: its clusters go in between, with all that they know of their endpoints.
func (p *policyRun) load(name string, changes ...string) {
	p.t.Helper()
	p.loads++
	p.applied(func() { p.must(p.PutXDS("service.yaml", []byte(fmt.Sprintf("# %d\nresources: []\n", p.loads)))) })
	p.applied(func() { p.put(name, changes...) })
}

// applied waits until a change is in use, and nothing of it is rejected.
func (p *policyRun) applied(change func()) {
	p.t.Helper()
	before, err := p.ProxyStatus(p.ctx)
	p.must(err)
	change()
	p.eventually("the example is in use", func() bool {
		s, err := p.ProxyStatus(p.ctx)
		if err == nil && len(s.Rejections) > 0 {
			p.t.Fatalf("rejected: %+v", s.Rejections)
		}
		a, agentErr := p.AgentStatus(p.ctx)
		return err == nil && agentErr == nil && s.Generation > before.Generation && a.Generation == s.Generation
	})
}

// ask makes calls of a method and wants them to end so.
func (p *policyRun) ask(want string, ask callsOf, method string, n int) callsResult {
	p.t.Helper()
	if ask.Target == "" {
		ask.Target = vip4 + ":20880"
	}
	ask.N, ask.Timeout, ask.Request.Method = n, 30*time.Second, method
	r := p.calls(p.consumer, ask)
	p.made += n
	if got := fmt.Sprint(r.Answers); want != "" && got != "map["+want+"]" {
		p.t.Errorf("%s: %v, want %s; %v", method, got, want, r.Errors)
	}
	return r
}

// with is a request with attachments.
func with(attachments ...string) callsOf {
	all := map[string]string{}
	for i := 0; i < len(attachments); i += 2 {
		all[attachments[i]] = attachments[i+1]
	}
	return callsOf{Request: dubbotest.Request{Attachments: all}}
}

// lines wants so many lines of the access log that hold all the parts.
func (p *policyRun) lines(want int, parts ...string) {
	p.t.Helper()
	p.eventually(fmt.Sprint(want, " log lines with ", parts), func() bool { return meshtest.CountLines(p.proxy.Output(), parts...) == want })
}

// grows wants a counter to have grown by so much since it was last asked for.
func (p *policyRun) grows(name string, by int, last *int) {
	p.t.Helper()
	*last += by
	p.counted(name+" ", *last)
}

func (p *policyRun) service() { p.ask("v1:10 v2:10", callsOf{}, "echo", 20) }

func (p *policyRun) timeouts() {
	p.load("timeouts", "timeout: 0.5s", "timeout: 10s") // in time, however busy the machine is
	p.ask("v1:5 v2:5", callsOf{}, "delay50", 10)
	p.load("timeouts")
	p.ask("status 31:4", callsOf{}, "silent", 4)
	p.grows("dubway_inverted_timeouts_total", 0, &p.inverted)
	p.ask("status 31:6", with("timeout", "100"), "silent", 6)
	p.counted("istio_requests_total{", 10, `reporter="source"`, `response_flags="UT"`, `dubbo_status="server_timeout"`)
	p.lines(10, `"response_flags":"UT"`, `"dubbo_status":"server_timeout"`, `"dubbo_method":"silent"`)
	p.grows("dubway_inverted_timeouts_total", 6, &p.inverted)
	out, err := exec.CommandContext(p.ctx, filepath.Join(meshtest.Binaries, "dubwayctl"), "--state-dir", p.StateDir(), "timeouts").CombinedOutput()
	p.must(err)
	for _, part := range []string{"shop/consumer", "silent", "500ms", "100ms", "limited"} {
		if !strings.Contains(string(out), part) {
			p.t.Errorf("dubwayctl timeouts does not say %s: %s", part, out)
		}
	}
}

func (p *policyRun) retries() {
	p.load("retries", "per_try_timeout: 0.5s", "per_try_timeout: 10s") // no try is ended by it
	p.ask("v2:20", callsOf{}, "errorv1", 20)
	failed := int(p.stats(p.v1).Methods["errorv1"])
	if failed < 5 || p.stats(p.v2).Methods["errorv1"] != 20 {
		p.t.Errorf("v1 was asked %d times and v2 %d times, want some and 20", failed, p.stats(p.v2).Methods["errorv1"])
	}
	p.grows("dubway_retries_total", failed, &p.retried)
	p.lines(20, `"dubbo_method":"errorv1"`, `"dubbo_status":"ok"`)
	p.ask("status 70:5", callsOf{}, "error", 5)
	if n := p.stats(p.v1).Methods["error"] + p.stats(p.v2).Methods["error"]; n != 15 {
		p.t.Errorf("5 calls that fail made %d tries, want 15", n)
	}
	p.grows("dubway_retries_total", 10, &p.retried)
	r := p.ask("", callsOf{}, "flaky1", 10)
	tries := int(p.stats(p.v1).Methods["flaky1"] + p.stats(p.v2).Methods["flaky1"])
	if r.Answers["v1"]+r.Answers["v2"] != 10 || tries <= 10 {
		p.t.Errorf("providers that fail every other time: %v %v after %d tries", r.Answers, r.Errors, tries)
	}
	p.grows("dubway_retries_total", tries-10, &p.retried)
	p.counted("istio_requests_total{", 5, `reporter="source"`, `response_code="70"`, `dubbo_status="service_error"`)
}

func (p *policyRun) retryBudget() {
	p.load("retry-budget", "per_try_timeout: 0.5s", "per_try_timeout: 3s") // all six are tried at the same time
	p.ask("status 31:6", callsOf{Burst: true}, "silent", 6)
	p.grows("dubway_retries_total", 2, &p.retried)
	p.grows("dubway_retries_refused_total", 4, &p.refused)
}

func (p *policyRun) attachments() {
	for tier, ask := range map[string]callsOf{"normal": with("debug", "yes"), "gold": with("tier", "gold")} {
		ask.Value = true
		r := p.ask("", ask, "attached", 1)
		var got map[string]string
		p.must(json.Unmarshal([]byte(r.Said), &got))
		maps.DeleteFunc(got, func(name, _ string) bool { return name == "path" || name == "interface" || name == "version" })
		if want := fmt.Sprintf("map[called:attached caller:shop/consumer tier:%s]", tier); fmt.Sprint(got) != want {
			p.t.Errorf("the provider saw %v, want %s", got, want)
		}
	}
	p.ask("v1:10 v2:10", with("debug", "yes"), "edited", 20) // arguments come back as they were
	p.counted("istio_requests_total{", 20, `reporter="source"`, `dubbo_method="edited"`, `dubbo_result="value"`)
	p.lines(20, `"dubbo_method":"edited"`, `"response_flags":"-"`)
}

func (p *policyRun) mirroring() {
	p.ask("v1:100 v2:100", callsOf{}, "mirrored", 200)
	var copies int
	p.eventually("the shadow has all copies", func() bool {
		s := p.stats(p.audit)
		copies = int(s.Methods["mirrored"])
		return copies == int(s.OneWays) && p.Sum("dubway_mirrored_requests_total ") == copies
	})
	if copies < 55 || copies > 145 { // half of 200, and 6 standard deviations
		p.t.Errorf("%d of 200 calls were mirrored, want half of them", copies)
	}
	p.grows("dubway_mirrored_requests_total", copies, &p.copied)
	p.grows("dubway_mirrored_dropped_total", 0, new(int))
	p.lines(200, `"dubbo_method":"mirrored"`)
}

func (p *policyRun) access() {
	p.ask("thrown:10", callsOf{}, "deleteOrder", 10)
	p.ask("v1:5 v2:5", callsOf{}, "echo", 10)
	admin := p.calls(p.admin, callsOf{Target: vip4 + ":20880", N: 10, Timeout: 30 * time.Second, Request: dubbotest.Request{Method: "deleteOrder"}})
	p.made += 10
	if admin.Answers["v1"]+admin.Answers["v2"] != 10 {
		p.t.Errorf("the admin: %v %v", admin.Answers, admin.Errors)
	}
	p.counted("istio_requests_total{", 10, `reporter="source"`, `response_flags="UAEX"`, `source_workload="consumer"`)
	p.counted("dubway_rbac_total{", 10, `policy="only-admins-delete"`, `result="denied"`)
	p.lines(10, `"response_flags":"UAEX"`, `"policy":"only-admins-delete"`, `"source_workload":"consumer"`)
}

func (p *policyRun) limits() {
	if r := p.ask("", callsOf{}, "place", 12); r.Answers["v1"]+r.Answers["v2"] != 5 || r.Answers["thrown"] != 7 {
		p.t.Errorf("%v %v, want 5 of 12", r.Answers, r.Errors)
	}
	p.ask("v1:10 v2:10", callsOf{}, "find", 20)
	p.counted("istio_requests_total{", 7, `reporter="source"`, `response_flags="RL"`)
	p.counted("dubway_local_rate_limit_total{", 7, `result="limited"`)
	p.lines(7, `"response_flags":"RL"`, `"dubbo_method":"place"`)
}

// globalLimits: the service counts, and only what a rate describes.
func (p *policyRun) globalLimits() {
	p.rateLimits(p.ratelimit, `domain: shop
descriptors:
- key: method
  value: place
  descriptors: [{key: source_cluster, rate_limit: {unit: day, requests_per_unit: 5}}]
`)
	p.load("global-limits", "0.05s", "20s") // for a busy machine
	if r := p.ask("", callsOf{}, "place", 12); r.Answers["v1"]+r.Answers["v2"] != 5 || r.Answers["thrown"] != 7 {
		p.t.Errorf("%v %v, want 5 of 12", r.Answers, r.Errors)
	}
	p.ask("v1:10 v2:10", callsOf{}, "find", 20)
	p.counted("istio_requests_total{", 7+7, `reporter="source"`, `response_flags="RL"`) // and those of limits
	p.counted("dubway_global_rate_limit_total{", 7, `result="over_limit"`)
	p.counted("dubway_global_rate_limit_total{", 5, `result="ok"`)
	p.lines(7, `"response_flags":"RL"`, `"policy":"envoy.filters.http.ratelimit"`)
}

func (p *policyRun) faults() {
	start := time.Now()
	p.ask("status 100:10", callsOf{}, "reserve", 10)
	if took := time.Since(start); took < 10*100*time.Millisecond {
		p.t.Errorf("10 calls that are delayed by 100 ms took %s", took)
	}
	p.ask("v1:5 v2:5", callsOf{}, "find", 10)
	p.counted("istio_requests_total{", 10, `reporter="source"`, `response_flags="DI,FI"`)
	p.counted("dubway_faults_total{", 10, `result="aborted"`)
	p.lines(10, `"response_flags":"DI,FI"`, `"dubbo_method":"reserve"`)
}

func (p *policyRun) breakers() {
	r := p.ask("", callsOf{Burst: true}, "delay3000", 10)
	if r.Answers["v1"]+r.Answers["v2"] != 4 || r.Answers["thrown"] != 6 {
		p.t.Errorf("%v %v, want 4 of 10 at a time", r.Answers, r.Errors)
	}
	p.ask("v1:10 v2:10", callsOf{}, "echo", 20)
	p.counted("istio_requests_total{", 6, `reporter="source"`, `response_flags="UO"`)
	p.lines(6, `"response_flags":"UO"`, `"dubbo_method":"delay3000"`)
}

func (p *policyRun) outliers() {
	failed := p.fails(5, 20)
	p.counted("dubway_outlier_ejections_total{", 1, `detector="consecutive_5xx"`)
	p.metric("dubway_outlier_ejected ", 1)
	p.ask("v2:10", callsOf{}, "echo", 10)
	p.lines(failed, `"dubbo_method":"errorv1"`, `"dubbo_status":"service_error"`)
}

func (p *policyRun) health() {
	p.load("health", "timeout: 0.5s", "timeout: 3s") // or a busy machine is taken for a sick one
	p.ask("v1:5 v2:5", callsOf{}, "echo", 10)
	p.must(p.second.Signal(syscall.SIGSTOP))
	p.metric("dubway_health_unhealthy ", 1)
	p.ask("v1:10", callsOf{}, "echo", 10)
	p.must(p.second.Signal(syscall.SIGCONT))
	p.metric("dubway_health_unhealthy ", 0)
	p.ask("v1:5 v2:5", callsOf{}, "echo", 10)
}

func (p *policyRun) hashing() {
	of := map[string]string{}
	for i := range 20 {
		r := p.ask("", with("user-id", fmt.Sprint("user", i)), "hashed", 5)
		for name, n := range r.Answers {
			if of[name] = fmt.Sprint("user", i); n != 5 {
				p.t.Errorf("user%d: %v %v, want one provider", i, r.Answers, r.Errors)
			}
		}
	}
	if len(of) != 2 {
		p.t.Errorf("20 users have the providers %v, want both", of)
	}
}

// fails calls v1 until it is ejected behind a number of failures in a row, and returns
// how many there were: a few calls may be on their way before the choice is prepared anew.
func (p *policyRun) fails(row, n int) int {
	p.t.Helper()
	r := p.ask("", callsOf{}, "errorv1", n)
	failed := r.Answers["status 70"]
	if failed < row || failed > row+3 || failed+r.Answers["v2"] != n {
		p.t.Errorf("%v %v, want %d failures, and v2", r.Answers, r.Errors, row)
	}
	return failed
}

func (p *policyRun) failover() {
	p.ask("v1:20", callsOf{}, "echo", 20)
	p.fails(3, 10)
	p.ask("v2:20", callsOf{}, "echo", 20)
	p.metric("dubway_outlier_ejected ", 1)
}

func (p *policyRun) distribution() {
	r := p.ask("", callsOf{}, "echo", 500)
	if n := r.Answers["v1"]; n < 340 || n > 460 || n+r.Answers["v2"] != 500 { // 6.7 standard deviations
		p.t.Errorf("%v %v, want 400 of 500 by v1", r.Answers, r.Errors)
	}
}

func (p *policyRun) zones() { p.ask("v1:50", callsOf{}, "echo", 50) }

// slowStart: v2 comes when v1 has been there for its window.
func (p *policyRun) slowStart() {
	const window = 12 * time.Second // half of it is enough for 60 calls, however busy the machine is
	p.load("slow-start", "30s", "12s", p.v2.Addresses[0].String(), p.audit.Addresses[0].String())
	p.ask("", callsOf{}, "echo", 2)
	time.Sleep(window)
	p.applied(func() { p.put("slow-start", "30s", "12s") })
	if r := p.ask("", callsOf{}, "echo", 60); r.Answers["v2"] == 0 || r.Answers["v2"] > 20 || r.Answers["v1"]+r.Answers["v2"] != 60 {
		p.t.Errorf("at first %v %v, want few by v2", r.Answers, r.Errors)
	}
	time.Sleep(window + window/2) // shares are prepared from time to time
	p.ask("v1:10 v2:10", callsOf{}, "echo", 20)
}

func (p *policyRun) choice() {
	at := callsOf{Target: p.v1.Addr(20880).String()}
	p.ask("v1:10 v2:10", at, "echo", 20)
	p.load("choice", "balancing: mesh", "balancing: caller")
	p.ask("v1:20", at, "echo", 20)
}
