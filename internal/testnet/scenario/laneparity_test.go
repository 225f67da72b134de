package scenario

import (
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// judging has policies of each action, enforced and in the shadow, that let calls of echo pass.
const judging = `[
{name: deny, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC,
  rules: {action: DENY, policies: {no-drop: {permissions: [{header: {name: method, string_match: {exact: drop}}}], principals: [{any: true}]}}},
  shadow_rules: {action: DENY, policies: {dry: {permissions: [{header: {name: method, string_match: {exact: echo}}}], principals: [{any: true}]}}}}},
{name: log, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC,
  rules: {action: LOG, policies: {all: {permissions: [{any: true}], principals: [{any: true}]}}}}},
{name: allow, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC,
  rules: {policies: {everybody: {permissions: [{any: true}], principals: [{any: true}]}}}}}]`

// apart are the beginnings of series that are not the same whether calls take the lane or not.
// What is of calls docs/LANE.md names, where the value is true.
var apart = map[string]bool{
	"go_": false, "process_": false, "dubway_agent_": false, "dubway_memory_level": false, // of the processes
	"dubway_lane": false, // of lanes
	// Of time, and of connections, which lanes have of their own.
	"istio_request_duration_milliseconds_bucket": false, "istio_request_duration_milliseconds_sum": false,
	"dubway_connections_": false, "dubway_upstream_connections": false, "dubway_witnesses_total": false,
	"dubway_datapath_": false, "dubway_dials_total": false,
	"dubway_overhead_seconds": true, "dubway_inverted_timeouts_total": true,
}

// ofLane is the label that tells calls of the lane from others.
var ofLane = regexp.MustCompile(`lane="[a-z]+",?`)

// series are the samples that have to be the same, calls of the lane and others together.
func series(text string) map[string]float64 {
	all := map[string]float64{}
	for line := range strings.Lines(text) {
		at := strings.LastIndexByte(line, ' ')
		if line[0] == '#' || at < 0 {
			continue
		}
		name := ofLane.ReplaceAllString(line[:at], "")
		if slices.ContainsFunc(slices.Collect(maps.Keys(apart)), func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			continue
		}
		v, _ := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
		all[name] += v
	}
	return all
}

// TestLaneParity: the same calls add the same to every series, whether they take the lane or not,
// but for those that are known to be apart.
func TestLaneParity(t *testing.T) {
	m, consumer, v1, _ := shop(t)
	m.Put(meshtest.Service{
		Name: "service", Addresses: []string{vip4}, Filters: strings.ReplaceAll(judging, "\n", " "),
		Routes: `[{match: {prefix: /}, route: {cluster: v1}}]`, Clusters: map[string][]netip.AddrPort{"v1": {v1.Addr(20880)}},
	})
	m.startLane(consumer, v1)
	const n = 2000
	read := func() map[string]float64 {
		text, err := m.Metrics(m.ctx)
		m.must(err)
		return series(text)
	}
	total := 0
	calls := func(mode string, n int) map[string]float64 {
		m.lane(mode)
		m.eventually("the mode", func() bool { return m.lanes().Mode == mode })
		before, lane := read(), m.laneCalls()
		r := m.calls(consumer, callsOf{Target: vip4 + ":20880", N: n, Timeout: time.Minute})
		if r.Answers["v1"] != n {
			t.Errorf("%v %v", r.Answers, r.Errors)
		}
		total += n
		m.counted("istio_requests_total{", total, `reporter="source"`)
		if took := m.laneCalls() - lane; mode == admin.LaneOn && took < n*7/10 || mode != admin.LaneOn && took > 0 {
			t.Errorf("lanes are %s: %d of %d calls took one", mode, took, n)
		}
		after := read()
		for name, v := range before {
			after[name] -= v
		}
		maps.DeleteFunc(after, func(_ string, v float64) bool { return v == 0 })
		return after
	}
	_ = calls(admin.LaneOff, 20) // from here on names are known
	off, on := calls(admin.LaneOff, n), calls(admin.LaneOn, n)
	for name, v := range off {
		if on[name] != v {
			t.Errorf("%s: %v by the proxy, %v by the lane", name, v, on[name])
		}
		delete(on, name)
	}
	for name, v := range on {
		t.Errorf("%s: nothing by the proxy, %v by the lane", name, v)
	}
	for policy, want := range map[string]float64{`policy="dry",result="denied"`: n, `policy="everybody",result="allowed"`: n, `policy="all",result="logged"`: n} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(off)), func(name string) bool {
			return strings.HasPrefix(name, "dubway_rbac_total{") && strings.Contains(name, policy) && off[name] == want
		}) {
			t.Errorf("no series of %s", policy)
		}
	}
	// dubwayctl routes.
	client := admin.NewClient(admin.ProxySocket(m.StateDir()))
	defer client.Close()
	var routes admin.RouteList
	m.must(client.Get(m.ctx, admin.PathRoutes, &routes))
	if len(routes.Names) != 1 || routes.Names[0].InLane < n*7/10 || routes.Names[0].InLane+routes.Names[0].ByProxy != uint64(total) {
		t.Errorf("of %d calls dubwayctl routes tells %+v", total, routes.Names)
	}
	text, err := os.ReadFile("../../../docs/LANE.md")
	m.must(err)
	for prefix, told := range apart {
		if told && !strings.Contains(string(text), "`"+prefix+"`") {
			t.Errorf("docs/LANE.md does not say that %s is not of lanes", prefix)
		}
	}
}
