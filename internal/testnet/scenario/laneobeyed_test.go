package scenario

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// TestLaneOfTraces: of the calls of a listener that samples some, as many have spans as it
// says, and those that say so themselves; the others take the lane.
func TestLaneOfTraces(t *testing.T) {
	m, consumer, v1, _ := shop(t)
	pod := m.bystander("otel")
	r := &traceRun{mesh: m, consumer: consumer, spans: m.server(pod, "collector", "spans", otelPort)}
	m.must(m.PutXDS("trace.yaml", []byte(fmt.Sprintf(traceTable, vip4, fmt.Sprintf(tracingOf, 25), v1.Addr(20880).Addr(), pod.Addr(otelPort).Addr()))))
	m.startLane(consumer, v1)
	const n = 4000
	spans := func(calls int, request dubbotest.Request) int {
		t.Helper()
		before := m.Sum("dubway_spans_exported_total")
		got := m.calls(consumer, callsOf{Target: vip4 + ":20880", N: calls, Timeout: time.Minute, Request: request})
		if got.Answers["v1"] != calls {
			t.Errorf("%v %v", got.Answers, got.Errors)
		}
		// Spans wait for others for a second.
		made, since := 0, time.Now()
		m.eventually("no more spans come", func() bool {
			if now := m.Sum("dubway_spans_exported_total") - before; now != made {
				made, since = now, time.Now()
			}
			return time.Since(since) > 3*time.Second
		})
		return made
	}
	// Two spans each, and five standard deviations of as many draws: 3.4 percent.
	if got := spans(n, dubbotest.Request{}); got < 2*n*216/1000 || got > 2*n*284/1000 {
		t.Errorf("%d spans of %d calls, want half as many", got, n)
	}
	if took := m.laneCalls(); took < n*6/10 {
		t.Errorf("%d of %d calls took a lane", took, n)
	}
	const ids = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
	before := m.laneCalls()
	for flag, want := range map[string]int{"-01": 400, "-00": 0} {
		if got := spans(200, with("traceparent", ids+flag).Request); got != want {
			t.Errorf("%d spans of 200 calls with flags %s, want %d", got, flag, want)
		}
	}
	if took := m.laneCalls() - before; took != 0 {
		t.Errorf("%d calls took the lane that are part of a trace", took)
	}
	m.counted("dubway_spans_dropped_total", 0)
	if heard := len(r.all()); heard != m.Sum("dubway_spans_exported_total") {
		t.Errorf("the collector has %d spans, and %d were exported", heard, m.Sum("dubway_spans_exported_total"))
	}
}

// TestLaneOfLimits: a limit of requests in flight holds over the lanes of all connections and
// the proxy together. What is too much is refused and counted, and nothing stays behind.
func TestLaneOfLimits(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2), limit: 3})
	m.startLane(consumer, v1, v2)
	one := func() {
		t.Helper()
		before := m.laneCalls()
		r := m.calls(consumer, callsOf{Target: vip4 + ":20880", N: 1000, Timeout: time.Minute})
		if r.Answers["v1"]+r.Answers["v2"] != 1000 {
			t.Errorf("%v %v", r.Answers, r.Errors)
		}
		if took := m.laneCalls() - before; took < 700 {
			t.Errorf("%d of 1000 calls took a lane: %+v", took, m.lanes())
		}
	}
	one()
	v := dubbotest.Verify{Target: vip4 + ":20880", Conns: 4, Depth: 16, Calls: 20_000, MaxSize: 2 << 10, Timeout: time.Minute, Tolerant: true}
	var r dubbotest.VerifyResult
	m.launch(consumer, "verify", v)(&r)
	if r.Answered+r.Refused != v.Calls || r.Lost+r.Duplicated != 0 || r.Refused == 0 || r.Answered < 1000 {
		t.Errorf("%+v", r)
	}
	m.counted(`istio_requests_total{`, 1000+v.Calls+r.OneWays, `reporter="source"`, `source_workload="consumer"`)
	if n := m.Sum(`istio_requests_total{`, `reporter="source"`, `response_flags="UO"`); n < r.Refused || n > r.Refused+r.OneWays {
		t.Errorf("%d requests over the limit, of which %d were answered so, and %d one-ways", n, r.Refused, r.OneWays)
	}
	one()
}

// TestLaneObserved: in the mode observe names are learned and it is counted what would take a
// lane, which nothing does.
func TestLaneObserved(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	m.startLane(consumer, v1, v2)
	m.lane("observe")
	m.eventually("the mode", func() bool { return m.lanes().Mode == "observe" })
	r := m.calls(consumer, callsOf{Target: vip4 + ":20880", N: 1000, Timeout: time.Minute})
	if r.Answers["v1"]+r.Answers["v2"] != 1000 {
		t.Errorf("%v %v", r.Answers, r.Errors)
	}
	would, not := m.Sum("dubway_lane_observed_total{", `way="lane"`), m.Sum("dubway_lane_observed_total{", `way="proxy"`)
	if would < 900 || would+not != 1000 || m.laneCalls() != 0 || len(m.lanes().Items) != 0 {
		t.Errorf("%d would take a lane and %d would not; %d did", would, not, m.laneCalls())
	}
	m.lane("on")
	m.eventually("the mode", func() bool { return m.lanes().Mode == "on" })
	_ = m.calls(consumer, callsOf{Target: vip4 + ":20880", N: 1000, Timeout: time.Minute})
	if took := m.laneCalls(); took < 700 || m.Sum("dubway_lane_observed_total{") != 1000 {
		t.Errorf("%d calls took a lane, %d are observed", took, m.Sum("dubway_lane_observed_total{"))
	}
}

// TestLaneOfMixed: a route's weight between a cluster of this node and another is kept: what is
// drawn for here takes the lane, and the rest goes where it was drawn for.
func TestLaneOfMixed(t *testing.T) {
	m, consumer, v1, _ := shop(t)
	far := m.bystander("far")
	m.provider(far, "far")
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 3, "v2": 1}), clusters: both(v1, far)})
	m.startLane(consumer, v1)
	const n = 4000
	r := m.calls(consumer, callsOf{Target: vip4 + ":20880", N: n, Timeout: time.Minute})
	// Five standard deviations: 3.4 percent.
	if got := r.Answers["far"]; got+r.Answers["v1"] != n || got < n*216/1000 || got > n*284/1000 {
		t.Errorf("%v %v, want a quarter elsewhere", r.Answers, r.Errors)
	}
	if took := m.laneCalls(); took < n*6/10 || took > r.Answers["v1"] {
		t.Errorf("%d of %d calls to v1 took a lane", took, r.Answers["v1"])
	}
	v := dubbotest.Verify{Target: vip4 + ":20880", Conns: 4, Depth: 16, Calls: 20_000, MaxSize: 2 << 10, Timeout: time.Minute}
	var verified dubbotest.VerifyResult
	m.launch(consumer, "verify", v)(&verified)
	if got := verified.Providers["far"]; verified.Answered != v.Calls || verified.Lost+verified.Duplicated != 0 || got < v.Calls*23/100 || got > v.Calls*27/100 {
		t.Errorf("%+v", verified)
	}
}

// TestLaneOfElsewhere: of one cluster with an endpoint here and two elsewhere each is chosen as
// often as its policy has it, and all that is chosen for the one here may take the lane.
func TestLaneOfElsewhere(t *testing.T) {
	m, consumer, v1, _ := shop(t)
	at := []netip.AddrPort{v1.Addr(20880)}
	for _, name := range []string{"far", "away"} {
		pod := m.bystander(name)
		m.provider(pod, name)
		at = append(at, pod.Addr(20880))
	}
	put := func(policy string) {
		m.Put(meshtest.Service{
			Name: "service", Addresses: []string{vip4}, Routes: split(map[string]int{"all": 1}),
			Clusters: map[string][]netip.AddrPort{"all": at}, Policy: policy,
		})
	}
	put("LEAST_REQUEST")
	m.startLane(consumer, v1)
	for i, policy := range []string{"LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"} {
		if i > 0 {
			put(policy)
		}
		const n = 3000
		before := m.laneCalls()
		r := m.calls(consumer, callsOf{Target: vip4 + ":20880", N: n, Timeout: time.Minute})
		took := m.laneCalls() - before
		t.Logf("%s: %v, %d took a lane", policy, r.Answers, took)
		for _, name := range []string{"v1", "far", "away"} {
			// Five standard deviations: 4.3 percent. By least request who answers faster gets more.
			got, most := r.Answers[name], n*38/100
			if policy == "LEAST_REQUEST" {
				most = n * 6 / 10
			}
			if got < 2*n/3-most || got > most {
				t.Errorf("%s: %d of %d calls went to %s: %v", policy, got, n, name, r.Errors)
			}
		}
		if r.Answers["v1"]+r.Answers["far"]+r.Answers["away"] != n {
			t.Errorf("%s: %v %v", policy, r.Answers, r.Errors)
		}
		if got := r.Answers["v1"]; took < got*6/10 || took > got {
			t.Errorf("%s: %d of %d calls to v1 took a lane", policy, took, got)
		}
	}
	put("LEAST_REQUEST")
	v := dubbotest.Verify{Target: vip4 + ":20880", Conns: 4, Depth: 16, Calls: 20_000, MaxSize: 2 << 10, Timeout: time.Minute}
	var verified dubbotest.VerifyResult
	m.launch(consumer, "verify", v)(&verified)
	if verified.Answered != v.Calls || verified.Lost+verified.Duplicated != 0 || len(verified.Providers) != 3 {
		t.Errorf("%+v", verified)
	}
}
