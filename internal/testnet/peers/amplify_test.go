package peers

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// count is what one call of a consumer makes: requests, as the mesh sees them, and
// tries, as the provider does.
type count struct{ requests, tries int }

// mute is the raw server that never answers.
const mute = -1

// amplified is one row of the table "How often a provider is asked" of
// docs/policies.md.
type amplified struct {
	cells  string // its first two
	answer int    // the provider's: a rpc.Why in the mesh's bytes, or mute
	route  string // what the route's action says beside its cluster
	filter string // of the listener
	job    string
	// Synchronous Java, asynchronous Java, dubbo-go.
	java, async, golang count
}

const again = "retry_policy: {retry_on: 5xx, num_retries: 2, retry_back_off: {base_interval: 0.005s}%s}"

func amplifiedRows() []amplified {
	retries, perTry := fmt.Sprintf(again, ""), fmt.Sprintf(again, ", per_try_timeout: 0.1s")
	return []amplified{
		{"it answers 80 | none", int(rpc.WhyUpstreamClosed), "", "", "", count{3, 3}, count{1, 1}, count{3, 3}},
		{"it answers 80 | Istio's default", int(rpc.WhyUpstreamClosed),
			`retry_policy: {num_retries: 2, retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"}`,
			"", "", count{3, 3}, count{1, 1}, count{3, 3}},
		{"it answers 80 | `5xx`, 2", int(rpc.WhyUpstreamClosed), retries, "", "", count{3, 9}, count{1, 3}, count{3, 9}},
		{"it answers 80, the consumer has `retries` 0 | `5xx`, 2", int(rpc.WhyUpstreamClosed), retries, "", "retries=0", count{1, 3}, count{1, 3}, count{1, 3}},
		{"it answers 31 | `5xx`, 2", int(rpc.WhyTimeout), retries, "", "", count{3, 9}, count{1, 3}, count{3, 9}},
		{"it never answers | `5xx`, 2, and a `timeout`", mute, "timeout: 0.1s, " + retries, "", "", count{3, 3}, count{1, 1}, count{3, 3}},
		{"it never answers | `5xx`, 2, and a `per_try_timeout`", mute, perTry, "", "", count{3, 9}, count{1, 3}, count{3, 9}},
		{"it throws | `5xx`, 2", int(rpc.WhyLimited), retries, "", "", count{1, 1}, count{1, 1}, count{3, 3}},
		{"the mesh denies | `5xx`, 2", int(rpc.WhyUpstreamClosed), retries, denyAll, "", count{1, 0}, count{1, 0}, count{3, 0}},
		{"the mesh limits | `5xx`, 2", int(rpc.WhyUpstreamClosed), retries, oneToken, "", count{1, 0}, count{1, 0}, count{3, 0}},
	}
}

// TestAmplification counts how often a provider is asked for one call of a consumer
// that tries again, by a route that does so too.
func TestAmplification(t *testing.T) {
	m := meshtest.New(t, "pe", 1, 10*time.Minute)
	l := &local{Mesh: m}
	pods := []*testnet.Pod{m.Pod("java-33"), m.Pod("java-32"), m.Pod("dubbo-go")}
	for i, k := range []kind{java33, java32, dubboGo} {
		l.consumers = append(l.consumers, consume(m, pods[i], k))
	}
	l.provider = m.Pod("provider", mutePort)
	raw, err := l.provider.StartHelper("raw", "tell")
	m.Must(err)
	rows := amplifiedRows()
	var services []meshtest.Service
	for i := range rows {
		name, action := fmt.Sprint("row", i), fmt.Sprint("cluster: row", i)
		if rows[i].route != "" {
			action += ", " + rows[i].route
		}
		services = append(services, meshtest.Service{
			Name: name, Addresses: []string{fmt.Sprintf("198.51.100.%d", i+1)}, Filters: rows[i].filter,
			Routes:   "[{match: {prefix: /}, route: {" + action + "}}]",
			Clusters: map[string][]netip.AddrPort{name: {l.provider.Addr(uint16(whyPort + rows[i].answer))}},
		})
	}
	m.Put(services...)
	_, l.proxy = m.Start(append(pods, l.provider))
	m.Must(raw.WaitText(m.Ctx, "READY"))
	for i := range rows {
		t.Run(rows[i].cells, func(t *testing.T) {
			for _, a := range l.asks("") {
				l.amplified(t, &rows[i], fmt.Sprintf("198.51.100.%d", i+1), a, raw)
			}
		})
	}
}

// TestAmplificationTable: the page says what TestAmplification measures.
func TestAmplificationTable(t *testing.T) {
	page, err := os.ReadFile("../../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range amplifiedRows() {
		line := fmt.Sprintf("| %s | %d, %d | %d, %d | %d, %d |", r.cells,
			r.java.requests, r.java.tries, r.async.requests, r.async.tries, r.golang.requests, r.golang.tries)
		if !strings.Contains(string(page), line+"\n") {
			t.Errorf("docs/policies.md does not say: %s", line)
		}
	}
}

// amplified makes one call and counts what it makes.
func (l *local) amplified(t *testing.T, r *amplified, at string, a ask, raw *testnet.Process) {
	t.Helper()
	if a.serialization == "fastjson2" {
		return // the answers are the same
	}
	want := map[bool]count{true: r.java, false: r.golang}[a.c.kind.java()]
	if a.check == "callasync" {
		want = r.async
	}
	counts := func() (requests, tries int) {
		return meshtest.CountLines(l.proxy.Output(), `"source_pod":"`+a.c.pod.Name+`"`, `"downstream_local_address":"`+at+`:20880"`),
			strings.Count(raw.Output(), fmt.Sprintf("try %d\n", r.answer))
	}
	before, triesBefore := counts()
	if r.filter == oneToken && a.check == "call" {
		a.c.do(l.Ctx, t, "target=%s checks=call retries=0", at+portName) // takes the only token
		l.Eventually("the first call's line", func() bool { n, _ := counts(); return n == before+1 })
		before, triesBefore = counts()
	}
	got := a.c.do(l.Ctx, t, "target=%s checks=%s %s", at+portName, a.check, r.job)[a.check]
	if got.OK {
		t.Errorf("%s %s: the call was answered", a.c.kind, a.check)
	}
	var requests, tries int
	for range 600 {
		requests, tries = counts()
		enough := requests-before >= want.requests && tries-triesBefore >= want.tries
		time.Sleep(50 * time.Millisecond) // for one too many
		if enough {
			break
		}
	}
	requests, tries = counts()
	requests, tries = requests-before, tries-triesBefore
	if requests != want.requests || tries != want.tries {
		t.Errorf("%s %s: %d requests, %d tries, want %+v: %s", a.c.kind, a.check, requests, tries, want, got.text())
	}
	t.Logf("%s %s: %d requests, %d tries, %d ms: %s", a.c.kind, a.check, requests, tries, got.MS, got.text())
}
