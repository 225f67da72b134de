package tap

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// TestFilter holds each condition against one request.
func TestFilter(t *testing.T) {
	r := newRig(t, true)
	c := r.prepared(nil)
	lost := r.prepared(func(c *rpc.Call) { c.Destination = nil })
	thrown := record(c)
	thrown.Result, thrown.Exception = rpc.ResultException, "org.example.Sold"
	failed := record(lost)
	failed.Result, failed.Status, failed.Why = rpc.ResultLocal, 80, rpc.WhyNoEndpoint
	tests := []struct {
		name          string
		filter        admin.TapFilter
		value, threw  bool // whether it takes an answered request, and an exception
		failed, error bool // and a local reply; or it is no filter
	}{
		{"nothing", admin.TapFilter{}, true, true, true, false},
		{"the consumer", admin.TapFilter{Pod: "shop/consumer-0"}, true, true, true, false},
		{"the provider", admin.TapFilter{Pod: "provider-0"}, true, true, false, false},
		{"another namespace", admin.TapFilter{Pod: "bank/provider-0"}, false, false, false, false},
		{"a workload's name", admin.TapFilter{Pod: "provider"}, false, false, false, false},
		{"the interface", admin.TapFilter{Interface: "org.example.Greeter"}, true, true, true, false},
		{"a beginning", admin.TapFilter{Interface: "org.example.*"}, true, true, true, false},
		{"an end", admin.TapFilter{Interface: "*.Greeter"}, true, true, true, false},
		{"a middle", admin.TapFilter{Interface: "*example*"}, true, true, true, false},
		{"anything", admin.TapFilter{Interface: "*"}, true, true, true, false},
		{"a part", admin.TapFilter{Interface: "Greeter"}, false, false, false, false},
		{"another method", admin.TapFilter{Method: "leave"}, false, false, false, false},
		{"a class", admin.TapFilter{Exception: "*.Sold"}, false, true, false, false},
		{"any class", admin.TapFilter{Exception: "*"}, false, true, false, false},
		{"a result", admin.TapFilter{Results: []string{"value", "local"}}, true, false, true, false},
		{"a status by name", admin.TapFilter{Statuses: []string{"server_error"}}, false, false, true, false},
		{"a status by number", admin.TapFilter{Statuses: []string{"20"}}, true, true, false, false},
		{"slower", admin.TapFilter{SlowerThan: "1.4ms"}, true, true, true, false},
		{"not slower", admin.TapFilter{SlowerThan: "1.5ms"}, false, false, false, false},
		{"no status", admin.TapFilter{Statuses: []string{"fine"}}, false, false, false, true},
		{"an unknown status", admin.TapFilter{Statuses: []string{"unknown"}}, false, false, false, true},
		{"no result", admin.TapFilter{Results: []string{""}}, false, false, false, true},
		{"no duration", admin.TapFilter{SlowerThan: "long"}, false, false, false, true},
	}
	for _, test := range tests {
		f, err := compile(&test.filter)
		if (err != nil) != test.error {
			t.Errorf("%s: error %v", test.name, err)
		}
		if err != nil {
			continue
		}
		for what, got := range map[string][2]bool{
			"a value": {f.record(record(c)), test.value}, "an exception": {f.record(thrown), test.threw}, "a local reply": {f.record(failed), test.failed},
		} {
			if got[0] != got[1] {
				t.Errorf("%s: takes %s: %v", test.name, what, got[0])
			}
		}
	}
}

// TestTap: a tap tells of what matches, whole, and of nothing else.
func TestTap(t *testing.T) {
	r := newRig(t, true)
	greet, leave := r.prepared(nil), r.prepared(func(c *rpc.Call) { c.Method = "leave" })
	observe(record(greet)) // nobody looks yet
	class := []byte("org.example.Sold")
	var seen []*admin.TapEvent
	r.follow(&admin.TapRequest{TapFilter: admin.TapFilter{Method: "greet"}, Limit: 2}, func() {
		observe(record(leave))
		rec := record(greet)
		rec.Result, rec.Exception = rpc.ResultException, string(class)
		observe(rec)
		clear(class)
		observe(record(leave))
		observe(record(greet))
		observe(record(greet)) // beyond the limit
	}, func(e *admin.TapEvent) error {
		seen = append(seen, e)
		return nil
	})
	if len(seen) != 2 || seen[0].Exception != "org.example.Sold" || seen[1].Result != "value" {
		t.Fatalf("the tap saw %+v", seen)
	}
	e := seen[0]
	if e.StatusName != "ok" || e.Serialization != "hessian2" || e.DurationMs != 1.5 || e.OverheadMs != 0.02 ||
		e.RequestID != "18446744073709551615" || e.Reporter != "both" || !e.SameNode || e.Dialled != "10.96.0.7:20880" ||
		e.Consumer != (admin.TapPeer{Namespace: "shop", Pod: "consumer-0", Workload: "consumer", Address: "10.0.1.1:40000"}) ||
		e.Provider.Pod != "provider-0" || e.Provider.Address != "10.0.2.2:20880" || e.Request != nil || e.BodiesMissing {
		t.Errorf("the tap tells %+v", e)
	}
}

// TestDropsAreTold: every matching request is either shown or counted, and
// nothing waits for the reader.
func TestDropsAreTold(t *testing.T) {
	const workers, records = 4, 5000
	r := newRig(t, true)
	var shown, dropped int
	var took time.Duration
	r.follow(&admin.TapRequest{}, func() {
		start := time.Now()
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				c := r.prepared(nil)
				for range records {
					observe(record(c))
				}
			})
		}
		all.Wait()
		took = time.Since(start)
	}, func(e *admin.TapEvent) error {
		dropped += int(e.Dropped)
		if !e.Time.IsZero() {
			shown++
		}
		if shown+dropped >= workers*records {
			return errEnough
		}
		return nil
	})
	if shown+dropped != workers*records || dropped == 0 || shown < maxWaiting {
		t.Errorf("of %d requests %d were shown and %d dropped", workers*records, shown, dropped)
	}
	if took > time.Minute { // the reader read nothing meanwhile
		t.Errorf("the requests took %s: they waited", took)
	}
}

// frame is a request or an answer of so many bytes.
func frame(size int) []byte {
	return append([]byte{0xda, 0xbb, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}, bytes.Repeat([]byte("x"), size-16)...)
}

// TestBodies: bodies are copied for a tap that asks, of calls that match, up to
// a bound; the copies are not the buffers.
func TestBodies(t *testing.T) {
	r := newRig(t, true)
	greet, leave := r.prepared(nil), r.prepared(func(c *rpc.Call) { c.Method = "leave" })
	if r.hub.Bodies() {
		t.Error("somebody asks for bodies before anybody came")
	}
	var seen []*admin.TapEvent
	r.follow(&admin.TapRequest{TapFilter: admin.TapFilter{Method: "greet"}, Bodies: true, Limit: 3}, func() {
		if !r.hub.Bodies() {
			t.Error("nobody asks for bodies")
		}
		buffer := frame(100)
		small := r.hub.Capture(greet, buffer, len(buffer))
		clear(buffer[16:])
		answer := frame(50)
		small.Answer(answer, len(answer))
		clear(answer[16:])
		large := r.hub.Capture(greet, frame(200<<10), 1<<20)
		if c := r.hub.Capture(leave, frame(100), 100); c != nil {
			t.Error("a request that does not match is copied")
		}
		for _, c := range []rpc.Capture{small, large, nil} {
			rec := record(greet)
			rec.Capture = c
			observe(rec)
		}
	}, func(e *admin.TapEvent) error {
		seen = append(seen, e)
		return nil
	})
	if len(seen) != 3 {
		t.Fatalf("%d requests were shown", len(seen))
	}
	if q, a := seen[0].Request, seen[0].Response; q == nil || a == nil || q.Size != 84 || q.Serialization != 2 ||
		string(q.Data) != strings.Repeat("x", 84) || string(a.Data) != strings.Repeat("x", 34) {
		t.Errorf("the small one is shown as %+v, %+v", q, a)
	}
	if q := seen[1].Request; q == nil || q.Size != 1<<20-16 || len(q.Data) != maxCapture-16 || seen[1].Response != nil {
		t.Errorf("the large one is shown with %d of %d bytes", len(q.Data), q.Size)
	}
	if !seen[2].BodiesMissing || seen[2].Request != nil {
		t.Error("it is not told that bodies are missing")
	}
}

// TestRoom: what a tap holds is bounded, and what it lets go can be held again.
func TestRoom(t *testing.T) {
	h := &Hub{}
	f, err := compile(&admin.TapFilter{Results: []string{"error"}})
	if err != nil {
		t.Fatal(err)
	}
	w := newWatch(f, true)
	if err := h.join(w); err != nil {
		t.Fatal(err)
	}
	defer h.leave(w)
	c := &rpc.Call{}
	var held []rpc.Capture
	for {
		kept := h.Capture(c, frame(maxCapture), maxCapture)
		if kept == nil {
			break
		}
		held = append(held, kept)
	}
	if len(held) != maxCaptured/maxCapture || w.room.Load() != 0 {
		t.Errorf("%d frames are held, and room for %d bytes is left", len(held), w.room.Load())
	}
	held[0].Answer(frame(100), 100) // there is no room for it
	for i, kept := range held {
		rec := &rpc.Record{Call: c, Capture: kept, Result: rpc.ResultValue}
		if i%2 == 0 {
			rec.Result = rpc.ResultError // matches: it waits for the reader
		}
		h.Observe(rec)
	}
	for len(w.events) > 0 {
		e := <-w.events
		w.line(&e)
	}
	if w.room.Load() != maxCaptured {
		t.Errorf("room for %d bytes came back, want %d", w.room.Load(), maxCaptured)
	}
}

// TestWhoMayRead: bodies can be switched off, and one tap reads them at a time.
func TestWhoMayRead(t *testing.T) {
	ctx := context.Background()
	ask := func(r *rig, q *admin.TapRequest) error {
		return r.client.Follow(ctx, admin.PathTap, q, func([]byte) error { return errEnough })
	}
	r := newRig(t, false)
	if err := ask(r, &admin.TapRequest{Bodies: true}); err == nil || !strings.Contains(err.Error(), "--tap-bodies=false") {
		t.Errorf("with bodies off: %v", err)
	}
	r = newRig(t, true)
	r.follow(&admin.TapRequest{Bodies: true}, func() {
		if err := ask(r, &admin.TapRequest{Bodies: true}); err == nil || !strings.Contains(err.Error(), "another tap reads bodies") {
			t.Errorf("a second reader of bodies: %v", err)
		}
		observe(record(r.prepared(nil)))
	}, func(*admin.TapEvent) error { return errEnough })
	for _, test := range []struct {
		uid   int
		known bool
		may   bool
	}{{0, true, true}, {65532, true, false}, {0, false, false}} {
		if err := mayRead(true, test.uid, test.known); (err == nil) != test.may {
			t.Errorf("uid %d (known %v): %v", test.uid, test.known, err)
		}
	}
	for _, q := range []any{
		&admin.TapRequest{Limit: -1}, &admin.TapRequest{TapFilter: admin.TapFilter{Results: []string{"x"}}}, map[string]any{"bodys": true},
	} {
		if err := r.client.Follow(ctx, admin.PathTap, q, func([]byte) error { return errEnough }); err == nil || errors.Is(err, errEnough) {
			t.Errorf("%+v is accepted", q)
		}
	}
}

// TestWatchersAreBounded: the ninth operator is refused.
func TestWatchersAreBounded(t *testing.T) {
	h := &Hub{}
	var joined []watcher
	for range maxWatchers {
		w := newWatch(&filter{}, false)
		if err := h.join(w); err != nil {
			t.Fatal(err)
		}
		joined = append(joined, w)
	}
	if err := h.join(newWatch(&filter{}, true)); err == nil || h.Bodies() {
		t.Errorf("the ninth joins: %v", err)
	}
	for _, w := range joined {
		h.leave(w)
	}
	if h.Watched() {
		t.Error("somebody is left")
	}
	if (*Hub)(nil).Watched() || (*Hub)(nil).Bodies() {
		t.Error("somebody looks at no hub")
	}
}
