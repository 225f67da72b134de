package peers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// probe is the interface that the peers share.
const probe = "org.dubway.test.Probe"

// maxFrameBytes is the proxy's limit in these tests.
const maxFrameBytes = 2 << 20

// local is a mesh in which every condition of docs/local-replies.md can be had,
// each at an address of its own.
type local struct {
	*meshtest.Mesh

	consumers []*consumer
	provider  *testnet.Pod // a real one, and the raw server
	victim    *testnet.Pod // raw servers, to be killed
	serving   *testnet.Process
	proxy     *testnet.Process
}

// The addresses by condition.
const (
	atProvider = "198.51.100.1"
	atNoRoute  = "198.51.100.2"
	atNothing  = "198.51.100.3" // a cluster that does not exist
	atEmpty    = "198.51.100.4"
	atRefused  = "198.51.100.5"
	atVictim   = "198.51.100.6"
	atMute     = "198.51.100.7"
	atTimeout  = "198.51.100.8"
	atDenied   = "198.51.100.9"
	atStatus   = "198.51.100.10" // faults
	atCode     = "198.51.100.11"
	atThrown   = "198.51.100.12"
	atLimited  = "198.51.100.13"
	atUnknown  = "198.51.100.14"
)

// The filters of listeners that let nobody call, each pod once, and nobody without asking
// a service that is not there.
const (
	denyAll  = `[{name: rbac, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules: {}}}]`
	oneToken = `[{name: limit, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit,
          stat_prefix: limit, token_bucket: {max_tokens: 1, fill_interval: 3600s},
          filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: {numerator: 100}}}}]`
	askNobody = `[{name: ask, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit,
          domain: d, failure_mode_deny: true, rate_limit_service: {grpc_service: {envoy_grpc: {cluster_name: nobody}}}}}]`
)

func newLocal(t *testing.T) *local {
	m := meshtest.New(t, "pe", 1, 10*time.Minute)
	l := &local{Mesh: m}
	pods := []*testnet.Pod{m.Pod("java-33"), m.Pod("java-32"), m.Pod("java-26"), m.Pod("dubbo-go")}
	for i, k := range []kind{java33, java32, java26, dubboGo} {
		l.consumers = append(l.consumers, consume(m, pods[i], k))
	}
	l.provider, l.victim = m.Pod("provider", port), m.Pod("victim", mutePort)
	serving, ready := provide(m, l.provider, dubboGo)
	l.serving = serving
	_, err := l.provider.StartHelper("raw")
	m.Must(err)
	p := l.provider
	to := func(name string, endpoints ...netip.AddrPort) meshtest.Service {
		return meshtest.Service{
			Name: name, Routes: meshtest.Split(map[string]int{name: 1}),
			Clusters: map[string][]netip.AddrPort{name: endpoints},
		}
	}
	services := map[string]meshtest.Service{
		atProvider: to("provider", p.Addr(port)),
		atNoRoute:  to("noroute", p.Addr(port)),
		atNothing:  to("nothing"),
		atEmpty:    to("empty"),
		atRefused:  to("refused", p.Addr(20999)),
		atVictim:   to("victim", l.victim.Addr(mutePort)),
		atMute:     to("mute", p.Addr(mutePort)),
		atTimeout:  to("timeout", p.Addr(mutePort)),
		atStatus:   to("status", p.Addr(port)),
		atCode:     to("code", p.Addr(port)),
		atThrown:   to("thrown", p.Addr(port)),
		atDenied:   to("denied", p.Addr(port)),
		atLimited:  to("limited", p.Addr(port)),
		atUnknown:  to("unknown", p.Addr(port)),
	}
	var all []meshtest.Service
	for address, s := range services {
		s.Addresses = []string{address}
		switch address {
		case atNoRoute:
			s.Routes = `[{match: {prefix: /, headers: [{name: method, string_match: {exact: other}}]}, route: {cluster: noroute}}]`
		case atNothing:
			s.Clusters = nil
		case atTimeout:
			s.Routes = `[{match: {prefix: /}, route: {cluster: timeout, timeout: 0.1s}}]`
		case atStatus:
			s.Filters = fmt.Sprintf(faultFilter, "http_status: 503")
		case atCode:
			s.Filters = fmt.Sprintf(faultFilter, "grpc_status: 4")
		case atThrown:
			s.Filters = fmt.Sprintf(faultFilter, "http_status: 500")
			s.Routes = `[{match: {prefix: /}, route: {cluster: thrown}, metadata: {filter_metadata: {dubway.io: {fault: {exception: ` + faultClass + `}}}}}]`
		case atDenied:
			s.Filters = denyAll
		case atLimited:
			s.Filters = oneToken
		case atUnknown:
			s.Filters = askNobody
			s.Routes = `[{match: {prefix: /}, route: {cluster: unknown, rate_limits: [{actions: [{remote_address: {}}]}]}}]`
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b meshtest.Service) int { return strings.Compare(a.Name, b.Name) })
	m.Put(all...)
	_, l.proxy = m.Start(append(pods, l.provider, l.victim), "--max-frame-bytes", fmt.Sprint(maxFrameBytes), "--drain", "500ms")
	ready()
	return l
}

// faultFilter aborts every call; it has room for how. FaultClass is one of Java's own.
const (
	faultFilter = `[{name: fault, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, abort: {%s, percentage: {numerator: 100}}}}]`
	faultClass  = "java.lang.IllegalStateException"
)

// row is one row of docs/local-replies.md.
type row struct {
	at   string
	job  string // what is called, by whom in particular
	why  rpc.Why
	code int // of the RpcException that is thrown; 0 for a status
	// class is the other exception that is thrown; "" for none.
	class string
	// status is what the proxy records, and sends: 20 with an exception.
	status int
	only   kind // "" for all
}

// ask is one way of calling.
type ask struct {
	c             *consumer
	serialization string
	check         string // call or callasync
}

func (l *local) asks(only kind) (all []ask) {
	for _, c := range l.consumers {
		switch {
		case only != "" && c.kind != only:
		case c.kind == dubboGo, c.kind == java26:
			all = append(all, ask{c, "", "call"})
		case only != "": // the row says the serialization
			all = append(all, ask{c, "", "call"}, ask{c, "", "callasync"})
		default:
			for _, s := range []string{"hessian2", "fastjson2"} {
				all = append(all, ask{c, s, "call"}, ask{c, s, "callasync"})
			}
		}
	}
	return all
}

// TestLocalReplies produces each condition and asks each kind of consumer, in
// each way, what it sees and how often it asked.
func TestLocalReplies(t *testing.T) {
	l := newLocal(t)
	for name, r := range map[string]row{
		"no route":            {at: atNoRoute, why: rpc.WhyNoRoute, code: 6, status: 20},
		"no cluster":          {at: atNothing, why: rpc.WhyNoCluster, code: 6, status: 20},
		"no endpoint":         {at: atEmpty, why: rpc.WhyNoEndpoint, status: 80},
		"connect failed":      {at: atRefused, why: rpc.WhyConnectFailed, status: 80},
		"too large":           {at: atProvider, job: "size=3000000", why: rpc.WhyTooLarge, code: 5, status: 20},
		"not decodable":       {at: atNoRoute, job: "serialization=nativejava", why: rpc.WhyNoRoute, status: 60, only: java32},
		"timeout":             {at: atTimeout, why: rpc.WhyTimeout, status: 31},
		"denied":              {at: atDenied, why: rpc.WhyDenied, code: 13, status: 20},
		"limit unknown":       {at: atUnknown, why: rpc.WhyLimitUnknown, code: 7, status: 20},
		"fault, a status":     {at: atStatus, why: rpc.WhyFault, status: 100},
		"fault, a code":       {at: atCode, why: rpc.WhyFault, code: 2, status: 20},
		"fault, an exception": {at: atThrown, why: rpc.WhyFault, class: faultClass, status: 20},
	} {
		t.Run(name, func(t *testing.T) { l.rows(t, r) })
	}
	t.Run("not decodable, hessian2", l.undecodable)
	t.Run("rate limit", l.rateLimit)
	t.Run("closed in mid-call", l.killed)
	t.Run("stopping", l.stopping)
	t.Run("limit", l.limit)
}

// rows asks in every way.
func (l *local) rows(t *testing.T, r row) {
	for _, a := range l.asks(r.only) {
		l.row(t, r, a)
	}
}

// row makes one call and checks what became of it, at both ends.
func (l *local) row(t *testing.T, r row, a ask) {
	t.Helper()
	what := fmt.Sprint(a.c.kind, " ", a.serialization, " ", a.check)
	job := r.job
	if a.serialization != "" {
		job += " serialization=" + a.serialization
	}
	lines, samples := l.lines(r, a), l.samples(r, a)
	got := a.c.do(l.Ctx, t, "target=%s checks=%s %s", r.at+portName, a.check, job)[a.check]
	if err := r.seen(a, got); err != nil {
		t.Errorf("%s: %v: %s", what, err, got.text())
	}
	t.Logf("%s: %d ms: %s", what, got.MS, got.text())
	agree(t, what, r.requests(a), func() (int, int) { return l.lines(r, a) - lines, l.samples(r, a) - samples })
}

// requests is how many requests one call makes.
func (r row) requests(a ask) int {
	if a.c.kind == java26 {
		return 1 // it has no cluster, and so no retries, without a registry
	}
	if a.c.kind.java() && (r.code != 0 || r.class != "" || a.check == "callasync") {
		return 1
	}
	return 3 // dubbo-go tries everything again
}

// seen checks what a consumer makes of the answer.
func (r row) seen(a ask, got report) error {
	if got.OK || len(got.Exception) == 0 {
		return errors.New("nothing was thrown")
	}
	first, last := got.Exception[0], got.Exception[len(got.Exception)-1]
	const outer = "org.apache.dubbo.rpc.RpcException"
	switch {
	case !strings.Contains(last.Message, "dubway: "+r.why.String()):
		return fmt.Errorf("the last does not say %q", r.why)
	case a.c.kind == dubboGo:
		return nil
	case r.class != "":
		if last.Class != r.class {
			return fmt.Errorf("no %s", r.class)
		}
		return nil
	case a.c.kind == java26: // it has no such class as is thrown, and says what it got instead
		if strings.Contains(last.Message, fmt.Sprintf("{code=%d, detailMessage=dubway: ", r.code)) != (r.code != 0) {
			return fmt.Errorf("no code %d", r.code)
		}
		return nil
	case a.check == "callasync" && first.Class != "java.util.concurrent.ExecutionException":
		return errors.New("no ExecutionException")
	case r.code != 0 && (last.Class != outer || last.Code != r.code):
		return fmt.Errorf("no RpcException of code %d", r.code)
	case a.check == "call" && r.code != 0 && (first.Class != outer || first.Code != 0):
		return errors.New("no outer RpcException of code 0")
	case a.check == "call" && r.code == 0 && (first.Class != outer || first.Code != r.retriedCode()):
		return fmt.Errorf("no RpcException of code %d", r.retriedCode())
	case r.code == 0 && !strings.HasPrefix(last.Class, "org.apache.dubbo.remoting."):
		return errors.New("no exception of remoting")
	}
	return nil
}

// retriedCode is the code that Java gives a status.
func (r row) retriedCode() int {
	if r.status == 31 {
		return 2
	}
	return 1
}

// lines counts the access log's lines of a row.
func (l *local) lines(r row, a ask) int {
	parts := []string{
		`"source_pod":"` + a.c.pod.Name + `"`, `"downstream_local_address":"` + r.at + `:20880"`,
		fmt.Sprintf(`"response_code":%d`, r.status),
	}
	if r.only == "" { // else nobody can read it
		parts = append(parts, `"dubbo_interface":"`+probe+`"`)
	}
	parts = append(parts, `"response_flags":"`+r.why.Flag()+`"`, `"dubbo_result":"local"`, `"response_code_details":"`+r.why.String()+`"`)
	return meshtest.CountLines(l.proxy.Output(), parts...)
}

// samples counts the same in the metrics.
func (l *local) samples(r row, a ask) int {
	return l.Sum("istio_requests_total{",
		`reporter="source"`, `source_workload="`+a.c.pod.Name+`"`, fmt.Sprintf(`response_code="%d"`, r.status),
		`response_flags="`+r.why.Flag()+`"`, `dubbo_result="local"`)
}

// rateLimit makes calls of pods that have spent their tokens.
func (l *local) rateLimit(t *testing.T) {
	for _, c := range l.consumers {
		if got := c.do(l.Ctx, t, "target=%s checks=call retries=0", atLimited+portName)["call"]; !got.OK {
			t.Fatalf("%s: the first call: %s", c.kind, got.text())
		}
	}
	l.rows(t, row{at: atLimited, why: rpc.WhyLimited, code: 7, status: 20})
}

// undecodable sends a frame whose body is no request: where only rules by name
// lead on, it is answered once, in its own serialization.
func (l *local) undecodable(t *testing.T) {
	proc, err := l.consumers[0].pod.StartHelper("bytes", atNoRoute+portName, "dabbc2000000000000000007"+"00000002"+"4e4e")
	l.Must(err)
	l.Must(proc.Wait(l.Ctx))
	out := proc.Output()
	if !strings.Contains(out, "status 20 serialization 2 ") || !strings.Contains(out, "RpcException") ||
		!strings.Contains(out, "dubway: no route matches: a request that cannot be decoded") {
		t.Errorf("the answer is %q", out)
	}
}

// killed kills a provider that has a call in hand. Java tries again, and finds
// nobody; the retries of a real cluster find another provider.
func (l *local) killed(t *testing.T) {
	for _, a := range l.asks("") {
		what := fmt.Sprint(a.c.kind, " ", a.serialization, " ", a.check)
		victim, err := l.victim.StartHelper("raw", "tell")
		l.Must(err)
		l.Eventually("the victim", func() bool { return l.victim.Listens(mutePort) })
		tries := strings.Count(victim.Output(), "try ") // of all victims
		closed := row{at: atVictim, why: rpc.WhyUpstreamClosed, status: 80}
		refused := row{at: atVictim, why: rpc.WhyConnectFailed, status: 80}
		count := func(r row) [2]int { return [2]int{l.lines(r, a), l.samples(r, a)} }
		closedBefore, refusedBefore := count(closed), count(refused)
		wait := a.c.begin(t, "target=%s checks=%s serialization=%s", atVictim+portName, a.check, a.serialization)
		l.Must(victim.WaitFor(l.Ctx, "the call", func() bool { return strings.Count(victim.Output(), "try ") > tries }))
		l.Must(victim.Kill())
		got := wait(l.Ctx)[a.check]
		// A second try may still find the victim's listener, but nobody behind it.
		if first, second := closed.seen(a, got), refused.seen(a, got); first != nil && second != nil {
			t.Errorf("%s: %v, %v: %s", what, first, second, got.text())
		}
		t.Logf("%s: %d ms: %s", what, got.MS, got.text())
		agree(t, what, closed.requests(a), func() (lines, samples int) {
			c, r := count(closed), count(refused)
			return c[0] - closedBefore[0] + r[0] - refusedBefore[0], c[1] - closedBefore[1] + r[1] - refusedBefore[1]
		})
		if l.lines(closed, a) == closedBefore[0] {
			t.Errorf("%s: no request was cut off", what)
		}
	}
}

// stopping ends the proxy while each consumer has a call in flight that outlasts
// the drain, and starts the next one, as an upgrade does. Each call gets one answer
// that says so. There are no retries here: whether one finds its connection closed
// already, and takes a new one to the next proxy, is a race within the consumer.
func (l *local) stopping(t *testing.T) {
	waits := map[*consumer]func(context.Context) map[string]report{}
	for _, c := range l.consumers {
		if c.kind == java26 {
			continue // its one way of calling cannot sleep
		}
		waits[c] = c.begin(t, "target=%s checks=call method=sleep millis=8000 timeout=9000 retries=0", atProvider+portName)
	}
	l.Must(sleeping(l.Ctx, l.serving, len(waits)))
	l.Must(l.proxy.Signal(syscall.SIGTERM))
	<-l.proxy.Done()
	_, err := l.StartProxy(l.Ctx, "--access-log", "stdout")
	l.Must(err)
	r := row{at: atProvider, why: rpc.WhyShuttingDown, status: 80}
	for c, wait := range waits {
		got := wait(l.Ctx)["call"]
		if err := r.seen(ask{c: c, check: "call"}, got); err != nil {
			t.Errorf("%s: %v: %s", c.kind, err, got.text())
		}
		if n := l.lines(r, ask{c: c}); n != 1 {
			t.Errorf("%s: %d requests were refused by the stopping proxy, want 1", c.kind, n)
		}
		t.Logf("%s: %d ms: %s", c.kind, got.MS, got.text())
	}
}

// limit makes calls while their pods have as many requests in flight as one
// connection takes. It comes last: the end of those requests is a long log.
func (l *local) limit(t *testing.T) {
	l.Must(l.WaitEnrolled(l.Ctx, l.provider))
	r := row{at: atMute, why: rpc.WhyOverflow, code: 7, status: 20}
	for _, c := range l.consumers {
		proc, err := c.pod.StartHelper("flood", atMute+portName, fmt.Sprint(1<<16+1))
		l.Must(err)
		l.Must(proc.WaitText(l.Ctx, "READY"))
		l.Eventually("the flood's own refusal", func() bool { return l.samples(r, ask{c: c}) == 1 })
	}
	l.rows(t, r)
}
