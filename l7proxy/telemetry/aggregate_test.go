package telemetry_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry"
	"github.com/dubway/dubway/l7proxy/telemetry/histogram"
)

// laneCalls are calls of the kinds that the lane may have: seen from both sides or one,
// beyond the budget of methods, with a label of the consumer's own name, with changed
// metrics.
func laneCalls() []*rpc.Call {
	var all []*rpc.Call
	for i := range 8 {
		c := call()
		c.Reporter, c.SameNode, c.Security = both, true, rpc.SecurityNode
		c.Method, c.Application = fmt.Sprint("m", i%4), fmt.Sprint("app", i%2)
		switch i {
		case 3:
			c.Reporter = rpc.ReporterSource
		case 4:
			c.Told = &report.Told{Source: report.Side{Rules: changed(), Values: []string{"vip"}}}
		case 5:
			c.Told = report.Tell(&report.Rules{Metrics: &report.Metrics{Dropped: report.Set(0).With(report.Duration)}}, nil)
		}
		all = append(all, c)
	}
	return all
}

var inLane = regexp.MustCompile(`,lane="(true|false)"`)

// istio are the lines of metrics that do not know the lane, and the mesh's own without it.
func istio(text string) string {
	var lines []string
	sums := map[string]int{}
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "dubway_overhead"), strings.HasPrefix(line, "dubway_lane"):
		case inLane.MatchString(line):
			var n int
			at := strings.LastIndexByte(line, ' ')
			fmt.Sscan(line[at:], &n)
			name := inLane.ReplaceAllString(line[:at], "")
			if sums[name] == 0 {
				lines = append(lines, name)
			}
			sums[name] += n
		default:
			lines = append(lines, line)
		}
	}
	for i, line := range lines {
		if n, ok := sums[line]; ok {
			lines[i] = fmt.Sprintln(line, n)
		}
	}
	return strings.Join(lines, "")
}

// TestAggregatesAreRecords: whichever way calls take, their series are the same, label for
// label and bucket for bucket.
func TestAggregatesAreRecords(t *testing.T) {
	options := telemetry.Options{Cluster: "Kubernetes", Methods: 3, Applications: true}
	records, mixed := newRig(t, options), newRig(t, options)
	one, other := laneCalls(), laneCalls()
	pending := make([][2]rpc.Aggregate, len(one))
	random := rand.New(rand.NewPCG(1, 2))
	for i := range one {
		// The first call of a name goes by the proxy.
		records.Prepare(one[i]).Observe(record(one[i]))
		mixed.Prepare(other[i]).Observe(record(other[i]))
	}
	flush := func(i int) {
		for j := range pending[i] {
			if pending[i][j].Calls() > 0 {
				other[i].Observer.(rpc.Aggregator).Aggregate(&pending[i][j])
			}
			pending[i][j] = rpc.Aggregate{Serialization: []uint8{2, 23}[j]}
		}
	}
	for i := range one {
		flush(i)
	}
	for range 5000 {
		i := random.IntN(len(one))
		rec := record(one[i])
		rec.Serialization = []uint8{2, 23}[random.IntN(2)]
		rec.Duration = time.Duration(random.Uint64N(1 << random.UintN(43)))
		rec.RequestBytes, rec.ResponseBytes = 16+random.IntN(1<<random.UintN(20)), 16+random.IntN(1<<random.UintN(20))
		one[i].Observer.Observe(rec)
		if random.IntN(3) == 0 {
			same := *rec
			same.Call = other[i]
			other[i].Observer.Observe(&same)
			continue
		}
		a := &pending[i][0]
		if rec.Serialization == 23 {
			a = &pending[i][1]
		}
		add(&a.Duration, histogram.Durations, int64(rec.Duration))
		add(&a.Request, histogram.Sizes, int64(rec.RequestBytes))
		add(&a.Response, histogram.Sizes, int64(rec.ResponseBytes))
		if random.IntN(50) == 0 {
			flush(i)
		}
	}
	for i := range one {
		flush(i)
	}
	want, got := istio(records.scrape()), istio(mixed.scrape())
	if strings.Count(want, "istio_requests_total{") < 6 || !strings.Contains(want, `tier="vip"`) || !strings.Contains(want, `dubbo_method="other"`) {
		t.Fatalf("the calls are too much alike:\n%s", want)
	}
	wants, gots := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(wants), len(gots)) {
		if i >= len(wants) || i >= len(gots) || wants[i] != gots[i] {
			t.Fatalf("line %d of %d and %d:\n got %s\nwant %s", i+1, len(gots), len(wants), gots[min(i, len(gots)-1)], wants[min(i, len(wants)-1)])
		}
	}
	all := uint64(5000 + len(one))
	if lane, proxy := mixed.Ways(other...); lane+proxy != all || lane < proxy || proxy == 0 {
		t.Errorf("%d calls by the lane, %d by the proxy, of %d", lane, proxy, all)
	}
	if lane, proxy := records.Ways(one...); lane != 0 || proxy != all {
		t.Errorf("%d calls by the lane, %d by the proxy, of %d", lane, proxy, all)
	}
}

// add counts a value as the kernel's programs do.
func add(to *rpc.Tally, l *histogram.Layout, value int64) {
	var h histogram.Histogram
	h.Observe(l, value)
	(*histogram.Tally)(to).Add(&h)
}

// TestLaneShare: by consumer, of calls that the consumer's side counts.
func TestLaneShare(t *testing.T) {
	r := newRig(t, telemetry.Options{})
	c := call()
	c.Reporter = both
	observer := r.Prepare(c)
	observer.Observe(record(c))
	a := &rpc.Aggregate{Serialization: 2}
	for range 3 {
		add(&a.Duration, histogram.Durations, 1000)
	}
	observer.(rpc.Aggregator).Aggregate(a)
	strangers := call()
	strangers.Reporter = rpc.ReporterDestination
	r.Prepare(strangers).Observe(record(strangers))
	idle := call()
	idle.Source.Workload = "idle"
	r.Prepare(idle).Observe(record(idle))
	for _, test := range []struct{ workload, want string }{{"consumer", "0.75"}, {"idle", "0"}} {
		if got := r.value("dubway_lane_share", `source_workload="`+test.workload+`"`, `source_workload_namespace="shop"`); got != test.want {
			t.Errorf("%s has a share of %s, want %s", test.workload, got, test.want)
		}
	}
	for _, test := range []struct{ lane, want string }{{"true", "3"}, {"false", "1"}} {
		if got := r.value("dubway_serialization_requests_total", `lane="`+test.lane+`"`, `reporter="source"`, `source_workload="consumer"`); got != test.want {
			t.Errorf("%s requests with lane %s, want %s", got, test.lane, test.want)
		}
	}
}

// TestTell: what is told of single calls of the lane is logged and shown as records are, and
// counted nowhere.
func TestTell(t *testing.T) {
	failures := report.Tell(&report.Rules{Log: &report.Log{Any: []report.Expression{{Kind: report.Code, Min: 400, Max: 599}}}}, nil)
	slow := report.Tell(&report.Rules{Log: &report.Log{Any: []report.Expression{{Kind: report.Millis, Min: 1, Max: 1 << 40}}}}, nil)
	for _, test := range []struct {
		name   string
		sample float64
		told   *report.Told
		open   bool
		tells  bool
		lines  int
	}{
		{"nobody asks", 0, nil, false, false, 0},
		{"every call", 1, nil, false, true, 1},
		{"a tap", 0, nil, true, true, 0},
		{"only failures", 1, failures, false, false, 0},
		{"slow ones", 0, slow, false, true, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			eye := &tap{open: test.open}
			r := newRig(t, telemetry.Options{AccessLog: &log, Sample: test.sample, Tap: eye})
			c := call()
			c.Told = test.told
			observer := r.Prepare(c).(rpc.Aggregator)
			if got := observer.Tells(); got != test.tells {
				t.Errorf("tells %v, want %v", got, test.tells)
			}
			rec := record(c)
			rec.Lane = true
			observer.Tell(rec)
			if got := r.value("istio_requests_total"); got != "" {
				t.Errorf("%s requests were counted", got)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if got := strings.Count(log.String(), "\n"); got != test.lines {
				t.Errorf("%d lines, want %d: %s", got, test.lines, log.String())
			}
			if test.lines > 0 && !strings.Contains(log.String(), `"response_code":20,`) || test.lines > 0 && !strings.Contains(log.String(), `,"lane":true,`) {
				t.Errorf("the line is %s", log.String())
			}
			if eye.told > 1 || (eye.told == 1) != test.open || eye.seen != 0 {
				t.Errorf("the tap was told of %d calls and observed %d", eye.told, eye.seen)
			}
		})
	}
}
