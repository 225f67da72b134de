package accesslog

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/dubway/dubway/l7proxy/rpc"
)

func call() *rpc.Call {
	return &rpc.Call{
		Protocol: rpc.ProtocolDubbo, Reporter: rpc.ReporterSource | rpc.ReporterDestination, SameNode: true,
		Source:      &rpc.Peer{Workload: "consumer", Pod: "consumer-0", Namespace: "shop"},
		Destination: &rpc.Peer{Workload: "provider", Pod: "provider-0", Namespace: "shop"},
		Service:     rpc.Service{Host: "provider.shop.svc.cluster.local"},
		Interface:   "org.example.Greeter", Method: "greet", Version: "1.0.0",
		Listener: "outbound-20880", Route: "default", Cluster: "provider-v1",
		Endpoint: netip.MustParseAddrPort("10.0.2.2:20880"), Original: netip.MustParseAddrPort("10.96.0.7:20880"),
	}
}

func record() *rpc.Record {
	return &rpc.Record{
		Result: rpc.ResultException, Exception: "org.example.Sold", Status: 20, Serialization: 23, ID: math.MaxUint64,
		Start:    time.Date(2026, 5, 4, 3, 2, 1, 987654321, time.FixedZone("", 3600)),
		Duration: 1234567, Overhead: 12 * time.Microsecond,
		RequestBytes: 300, ResponseBytes: 80, Downstream: netip.MustParseAddrPort("[fd00::1]:40000"),
	}
}

// buffer is a bytes.Buffer that two goroutines may use.
type buffer struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes.String()
}

func TestRequestLine(t *testing.T) {
	const want = `{"start_time":"2026-05-04T02:02:01.987Z","duration":1.235,"overhead":0.012,` +
		`"response_code":20,"response_flags":"-","response_code_details":"via_upstream",` +
		`"bytes_received":300,"bytes_sent":80,"request_id":"18446744073709551615",` +
		`"dubbo_status":"ok","dubbo_result":"exception","dubbo_exception":"org.example.Sold","dubbo_serialization":"fastjson2","downstream_remote_address":"[fd00::1]:40000",` +
		`"protocol":"dubbo","reporter":"both","downstream_local_address":"10.96.0.7:20880",` +
		`"upstream_host":"10.0.2.2:20880","upstream_cluster":"provider-v1","route_name":"default","listener":"outbound-20880",` +
		`"dubbo_interface":"org.example.Greeter","dubbo_method":"greet","dubbo_version":"1.0.0","dubbo_generic":false,` +
		`"destination_service":"provider.shop.svc.cluster.local",` +
		`"source_workload":"consumer","source_workload_namespace":"shop","source_pod":"consumer-0",` +
		`"destination_workload":"provider","destination_workload_namespace":"shop","destination_pod":"provider-0",` +
		`"same_node":true}` + "\n"
	if got := string(appendRequest(nil, Fixed(call()), record())); got != want {
		t.Errorf("line\n got %s\nwant %s", got, want)
	}
}

func TestConnectionLine(t *testing.T) {
	c := &rpc.Call{Protocol: rpc.ProtocolTLS, Reporter: rpc.ReporterSource, Original: netip.MustParseAddrPort("10.0.0.9:443")}
	line := appendConnection(nil, &rpc.Connection{
		Call: c, Why: rpc.WhyConnectFailed, Start: record().Start, Duration: time.Second, Sent: 5, Received: 6, Closed: true,
	})
	const want = `{"start_time":"2026-05-04T02:02:01.987Z","duration":1000.000,"response_code":0,"response_flags":"UF",` +
		`"response_code_details":"cannot connect to the endpoint","bytes_received":6,"bytes_sent":5,` +
		`"downstream_remote_address":null,"protocol":"tls","reporter":"source","downstream_local_address":"10.0.0.9:443",` +
		`"upstream_host":null,"upstream_cluster":null,"route_name":null,"listener":null,"destination_service":null,` +
		`"source_workload":null,"source_workload_namespace":null,"source_pod":null,` +
		`"destination_workload":null,"destination_workload_namespace":null,"destination_pod":null,"same_node":false}` + "\n"
	if string(line) != want {
		t.Errorf("line\n got %s\nwant %s", line, want)
	}
}

// TestPolicies: a line tells of policies only where one acted.
func TestPolicies(t *testing.T) {
	for _, tt := range []struct{ policy, shadow any }{
		{nil, nil}, {"ns[shop]-policy[a]-rule[0]", nil}, {nil, "rbac"}, {"a \"b\"", "c"},
	} {
		rec, c := record(), rpc.Connection{Call: call()}
		rec.Policy, _ = tt.policy.(string)
		rec.Shadow, _ = tt.shadow.(string)
		c.Policy, c.Shadow = rec.Policy, rec.Shadow
		for _, line := range [][]byte{appendRequest(nil, Fixed(call()), rec), appendConnection(nil, &c)} {
			if fields := parse(t, line); fields["policy"] != tt.policy || fields["shadow_denied_by"] != tt.shadow {
				t.Errorf("%v is logged as %s", tt, line)
			}
		}
	}
}

// TestEnds iterates every result and every reason.
func TestEnds(t *testing.T) {
	for result := range rpc.Results {
		for why := range rpc.Whys {
			rec := record()
			rec.Result, rec.Why = rpc.Result(result), rpc.Why(why)
			fields := parse(t, appendRequest(nil, Fixed(call()), rec))
			if fields["dubbo_result"] != rec.Result.String() || fields["response_flags"] != rec.Why.Flag() {
				t.Errorf("%v, %v is logged as %v", rec.Result, rec.Why, fields)
			}
			details, _ := fields["response_code_details"].(string)
			switch {
			case rec.Why != rpc.WhyNone && details != rec.Why.String():
				t.Errorf("%v, %v has details %q", rec.Result, rec.Why, details)
			case rec.Why == rpc.WhyNone && result >= int(rpc.ResultValue) && result <= int(rpc.ResultError) && details != "via_upstream":
				t.Errorf("%v from a provider has details %q", rec.Result, details)
			}
		}
	}
	for status := range 256 {
		rec := record()
		rec.Status = uint8(status)
		fields := parse(t, appendRequest(nil, "", rec))
		if got := fields["response_code"]; got != float64(status) {
			t.Errorf("status %d is logged as %v", status, got)
		}
		if name, _ := fields["dubbo_status"].(string); name != StatusName(uint8(status)) {
			t.Errorf("status %d is called %q", status, name)
		}
	}
}

func parse(t *testing.T, line []byte) map[string]any {
	t.Helper()
	if n := bytes.Count(line, []byte("\n")); n != 1 || line[len(line)-1] != '\n' {
		t.Fatalf("%q is not one line", line)
	}
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return fields
}

func FuzzText(f *testing.F) {
	for _, seed := range []string{
		"", "a\nb", `a"b\`, "a\xffb", "\x00\x1f\x7f", "接口\u2028\u2029\u0085", strings.Repeat("x", maxText+1),
		strings.Repeat("é", maxText), "\xed\xa0\x80", "\U0010ffff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := call()
		c.Interface, c.Method = text, text
		line := appendRequest(nil, Fixed(c), record())
		fields := parse(t, line)
		if !utf8.Valid(line) {
			t.Fatalf("%q is not UTF-8", line)
		}
		if bytes.ContainsAny(line[:len(line)-1], "\x00\n\r\x1b\u0085\u2028\u2029") {
			t.Fatalf("%q has control characters", line)
		}
		want := strings.ToValidUTF8(text, "\uFFFD")
		got, _ := fields["dubbo_method"].(string)
		if len(text) <= maxText && utf8.ValidString(text) && got != want {
			t.Fatalf("method %q is logged as %q", text, got)
		}
		if len(got) > 3*maxText+3 {
			t.Fatalf("a text of %d bytes is logged with %d", len(text), len(got))
		}
	})
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out buffer
		log := New(&out)
		log.Request("", record())
		time.Sleep(time.Second)
		synctest.Wait()
		if got := strings.Count(out.String(), "\n"); got != 1 {
			t.Errorf("lines after a second = %d, want 1", got)
		}
		log.Request("", record())
		log.Connection(&rpc.Connection{Call: call()})
		if err := log.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		if got := strings.Count(out.String(), "\n"); got != 3 {
			t.Errorf("lines after Close = %d, want 3", got)
		}
		log.Request("", record())
		if got := log.Dropped(); got != 1 {
			t.Errorf("dropped after Close = %d, want 1", got)
		}
		if err := log.Close(); err != nil {
			t.Errorf("second Close = %v", err)
		}
	})
}

// TestFull: a full buffer does not wait for the clock.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out buffer
		log := New(&out)
		defer log.Close()
		line := len(appendRequest(nil, "", record()))
		for range fullBuffer/line + 1 {
			log.Request("", record())
		}
		synctest.Wait()
		if len(out.String()) < fullBuffer {
			t.Error("a full buffer was not written at once")
		}
	})
}

// stuck is a reader that does not read until it is let go.
type stuck struct {
	buffer

	release chan struct{}
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.release
	return s.buffer.Write(p)
}

func TestStuckReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &stuck{release: make(chan struct{})}
		log := New(out)
		log.Request("", record())
		time.Sleep(time.Second) // the writer is in Write now
		const lines = 20000
		start := time.Now()
		for range lines {
			log.Request("", record())
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("logging waited for the reader: %v", waited)
		}
		if err := log.Close(); !errors.Is(err, errStuck) {
			t.Errorf("Close = %v, want %v", err, errStuck)
		}
		dropped := log.Dropped()
		if dropped == 0 || len(log.buffer) > maxBuffer {
			t.Errorf("dropped = %d with %d bytes waiting", dropped, len(log.buffer))
		}
		close(out.release)
		synctest.Wait()
		if got := strings.Count(out.String(), "\n"); uint64(got)+dropped != lines+1 {
			t.Errorf("%d lines written and %d dropped, want %d together", got, dropped, lines+1)
		}
	})
}

// broken fails after a line and a half.
type broken struct{}

func (broken) Write(p []byte) (int, error) {
	return bytes.IndexByte(p, '\n') + 20, io.ErrShortWrite
}

func TestBrokenReader(t *testing.T) {
	log := New(broken{})
	for range 5 {
		log.Request("", record())
	}
	if err := log.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if got := log.Dropped(); got != 4 {
		t.Errorf("dropped = %d, want 4", got)
	}
}

func TestSample(t *testing.T) {
	log := New(io.Discard)
	defer log.Close()
	for _, share := range []float64{0, 0.25, 1} {
		log.SetSample(share)
		if got := log.Sample(); got != share {
			t.Errorf("Sample = %v, want %v", got, share)
		}
		const n = 40000
		var hits int
		for range n {
			if log.Sampled() {
				hits++
			}
		}
		if got := float64(hits) / n; math.Abs(got-share) > 0.02 || (share == 0 || share == 1) && got != share {
			t.Errorf("share of sampled requests = %v, want %v", got, share)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	log := New(io.Discard)
	defer log.Close()
	fixed, rec := Fixed(call()), record()
	b.ReportAllocs()
	for b.Loop() {
		log.Request(fixed, rec)
	}
}
