package tap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// TestLatency: each duration is in a bucket whose middle is near it.
func TestLatency(t *testing.T) {
	for d := time.Duration(0); d < 130*time.Second; d = d*101/100 + 37 {
		i := bucket(d)
		if i < 0 || i >= numBuckets {
			t.Fatalf("%s is in bucket %d of %d", d, i, numBuckets)
		}
		if off := (middle(i) - d).Abs(); off > max(tick/2, d/31)+tick {
			t.Fatalf("%s is shown as %s", d, middle(i))
		}
	}
	for i := range numBuckets {
		if bucket(middle(i)) != i {
			t.Errorf("the middle of bucket %d, %s, is in bucket %d", i, middle(i), bucket(middle(i)))
		}
	}
	if bucket(-1) != 0 || bucket(time.Hour) != numBuckets-1 {
		t.Error("what is out of range is not in the last bucket on its side")
	}
	var l latency
	var last [numBuckets]uint64
	for ms := range 100 {
		l.add(time.Duration(ms+1) * time.Millisecond)
	}
	counts, total := l.since(&last)
	for _, test := range []struct{ share, want float64 }{{0.5, 50}, {0.99, 99}, {1, 100}, {0.001, 1}} {
		got := milliseconds(quantile(&counts, total, test.share))
		if got < test.want*0.965 || got > test.want*1.035 {
			t.Errorf("quantile %v is %v ms, want about %v", test.share, got, test.want)
		}
	}
	if counts, total = l.since(&last); total != 0 || quantile(&counts, 0, 0.5) != 0 {
		t.Errorf("%d values came again", total)
	}
}

// TestTopIsExact: reports of requests that go on meanwhile add up to all of them.
func TestTopIsExact(t *testing.T) {
	const workers, records = 4, 20000
	r := newRig(t, false)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	sums := map[string]*admin.TopRow{}
	var all sync.WaitGroup
	work := sync.OnceFunc(func() {
		for w := range workers {
			all.Go(func() {
				for i := range records {
					c := r.prepared(func(c *rpc.Call) { c.Method = fmt.Sprint("m", w%2) })
					rec := record(c)
					rec.Result = rpc.Result(i % rpc.Results)
					rec.Duration = time.Duration(w%2+1) * 10 * time.Millisecond
					observe(rec)
				}
			})
		}
	})
	err := r.client.Follow(ctx, admin.PathTop, &admin.TopRequest{Interval: "100ms", By: admin.TopByMethod}, func(line []byte) error {
		work()
		var report admin.TopReport
		if err := json.Unmarshal(line, &report); err != nil {
			return err
		}
		var total uint64
		for _, item := range report.Items {
			if sums[item.Method] == nil {
				sums[item.Method] = &admin.TopRow{P50Ms: item.P50Ms, P99Ms: item.P99Ms}
			}
			sums[item.Method].Calls += item.Calls
			sums[item.Method].Failed += item.Failed
			sums[item.Method].Exceptions += item.Exceptions
			if item.Consumer != "" || item.Interface != "org.example.Greeter" || item.Reporter != "both" {
				t.Errorf("a row says %+v", item)
			}
			if got, want := item.CallsPerSecond*report.Seconds, float64(item.Calls); got < want-1 || got > want+1 {
				t.Errorf("%v calls a second in %v s are %v", item.CallsPerSecond, report.Seconds, item.Calls)
			}
		}
		for _, sum := range sums {
			total += sum.Calls
		}
		if total >= workers*records {
			return errEnough
		}
		return nil
	})
	all.Wait()
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	r.idle()
	const each = workers / 2 * records
	for method, want := range map[string]float64{"m0": 10, "m1": 20} {
		s := sums[method]
		thrown := uint64(workers / 2 * ((records + rpc.Results - 1 - int(rpc.ResultException)) / rpc.Results))
		if s == nil || s.Calls != each || s.Exceptions != thrown || s.P50Ms < want*0.96 || s.P99Ms > want*1.04 {
			t.Errorf("%s adds up to %+v, want %d calls, %d exceptions, %v ms", method, s, each, thrown, want)
		}
	}
}

// TestTopRows: what has a row, and how many there are.
func TestTopRows(t *testing.T) {
	r := newRig(t, false)
	c := r.prepared(nil)
	lost := r.prepared(func(c *rpc.Call) { c.Destination, c.Reporter = nil, rpc.ReporterSource })
	far := r.prepared(func(c *rpc.Call) {
		c.Source, c.Reporter = &rpc.Peer{Address: c.Endpoint.Addr()}, rpc.ReporterDestination
	})
	for by, want := range map[string]string{
		admin.TopByBoth:   "org.example.Greeter.greet 10.0.2.2 shop/provider destination|org.example.Greeter.greet shop/consumer shop/provider both|org.example.Greeter.greet shop/consumer v1 source",
		admin.TopByMethod: "org.example.Greeter.greet   both|org.example.Greeter.greet   destination|org.example.Greeter.greet   source",
		admin.TopByPair:   ". 10.0.2.2 shop/provider destination|. shop/consumer shop/provider both|. shop/consumer v1 source",
	} {
		top := newTop(by, &filter{})
		for _, c := range []*rpc.Call{c, lost, far} {
			top.observe(record(c))
		}
		var got []string
		for _, item := range top.report(time.Now(), time.Second).Items {
			got = append(got, name(&item))
		}
		if strings.Join(got, "|") != want {
			t.Errorf("by %s there are %q", by, got)
		}
	}

	top := newTop(admin.TopByMethod, &filter{method: "m*"})
	for i := range 2 * maxRows {
		rec := record(r.prepared(func(c *rpc.Call) { c.Method = fmt.Sprint("m", i) }))
		top.observe(rec)
		top.observe(rec)
	}
	top.observe(record(c)) // the filter says no
	report := top.report(time.Now(), time.Second)
	if len(report.Items) != maxRows+1 || report.Items[0].Method != "other" || report.Items[0].Calls != 2*maxRows {
		t.Errorf("%d rows, the first %+v", len(report.Items), report.Items[0])
	}
	if again := top.report(time.Now(), time.Second); len(again.Items) != 0 {
		t.Errorf("%d rows of nothing", len(again.Items))
	}
	for range maxCalls {
		top.observe(record(r.prepared(func(c *rpc.Call) { c.Method = "m0" })))
	}
	if report := top.report(time.Now(), time.Second); len(report.Items) != 1 || report.Items[0].Calls != maxCalls {
		t.Errorf("%d rows after many connections", len(report.Items))
	}
	for _, q := range []*admin.TopRequest{{}, {By: "x"}, {By: "both", Interval: "1ms"}, {By: "both", Interval: "1h"}, {By: "both", Interval: "x"}, {By: "both", Reports: -1}} {
		err := r.client.Follow(context.Background(), admin.PathTop, q, func([]byte) error { return errEnough })
		if err == nil || errors.Is(err, errEnough) {
			t.Errorf("%+v is accepted", q)
		}
	}
}
