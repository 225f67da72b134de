package scenario

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// TestByteExactThroughTheMesh: many requests, many sizes, many splits, many in
// flight; every payload compared by the peer that sent it.
func TestByteExactThroughTheMesh(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4, vip6}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	m.start(consumer, v1, v2)
	for _, v := range []dubbotest.Verify{
		{Target: vip4 + ":20880", Conns: 4, Depth: 64, Calls: 100_000, MaxSize: 4 << 10, Timeout: time.Minute},
		{Target: "[" + vip6 + "]:20880", Conns: 2, Depth: 8, Calls: 200, MaxSize: 8 << 20, Timeout: time.Minute},
	} {
		var r dubbotest.VerifyResult
		m.launch(consumer, "verify", v)(&r)
		if r.Answered != v.Calls || r.Lost+r.Duplicated+r.Refused != 0 {
			t.Errorf("%s: %+v", v.Target, r)
		}
	}
}

// TestOriginalDestinations: 2,000 connections at once, each to its own address,
// and each is routed by the address that it dialled.
func TestOriginalDestinations(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	r := routed{routes: split(map[string]int{"v1": 1}), clusters: both(v1, v2)}
	for i := range 40 {
		r.addresses = append(r.addresses, fmt.Sprintf("198.51.100.%d", i+1))
	}
	m.put(r)
	_, proxy := m.start(consumer, v1, v2)
	var seen struct{ Answered, Failed int }
	m.launch(consumer, "many", manyOf{Addresses: r.addresses, Conns: 2000})(&seen)
	if seen.Answered != 2000 {
		t.Fatalf("%+v", seen)
	}
	m.counted("istio_requests_total{", 2000, `reporter="source"`)
	// The log may drop lines, and counts them. Where a busy machine's witness came late,
	// the provider's side has lines of its own.
	const logged, theirs = `"dubbo_method":"to-`, `"reporter":"destination"`
	m.eventually("a line, or a dropped one, of each call", func() bool {
		output := proxy.Output()
		ours := countLines(output, logged) - countLines(output, logged, theirs)
		if ours > 2000 {
			t.Fatalf("%d lines of 2,000 calls", ours)
		}
		return ours+m.Sum("dubway_access_log_dropped_total") >= 2000
	})
	for line := range strings.Lines(proxy.Output()) {
		_, rest, ok := strings.Cut(line, logged)
		if !ok || strings.Contains(line, theirs) {
			continue
		}
		dialled, _, _ := strings.Cut(rest, `"`)
		if !strings.Contains(line, `"downstream_local_address":"`+dialled+`"`) {
			t.Errorf("dialled %s: %s", dialled, line)
		}
	}
}

// manyOf opens connections that live at the same time, and calls once on each, a
// method that names the address.
type manyOf struct {
	Addresses []string
	Conns     int
}

func many(args []string) error {
	var ask manyOf
	if err := json.Unmarshal([]byte(args[1]), &ask); err != nil {
		return err
	}
	var mu sync.Mutex
	var result struct {
		Answered, Failed int
		First            string
	}
	var opened, done sync.WaitGroup
	opened.Add(ask.Conns)
	for i := range ask.Conns {
		done.Go(func() {
			address := ask.Addresses[i%len(ask.Addresses)] + ":20880"
			c, err := dubbotest.Dial(address)
			opened.Done()
			opened.Wait()
			if err == nil {
				_, err = c.Call(dubbotest.Request{Method: "to-" + address}, []byte("x"), time.Minute)
				_ = c.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				result.Failed++
				result.First = err.Error()
				return
			}
			result.Answered++
		})
	}
	done.Wait()
	return say(args[0], result)
}

// probe is what the prober's process is asked: connect, maybe with a mark, say
// something, and tell what came back.
type probe struct {
	Target string
	Say    string
	Mark   int
	First  bool // the server speaks first
}

type probeResult struct {
	Error string
	Got   string
}

func probing(args []string) error {
	var ask probe
	if err := json.Unmarshal([]byte(args[1]), &ask); err != nil {
		return err
	}
	d := net.Dialer{Timeout: 30 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if ask.Mark != 0 {
			_ = c.Control(func(fd uintptr) {
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_MARK, ask.Mark)
			})
		}
		return err
	}}
	c, err := d.Dial("tcp", ask.Target)
	if err != nil {
		return say(args[0], probeResult{Error: err.Error()})
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if ask.First {
		b := make([]byte, 64)
		n, err := c.Read(b)
		return say(args[0], probeResult{Got: string(b[:n]), Error: fmt.Sprint(err)})
	}
	_, _ = c.Write([]byte(ask.Say))
	_ = c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	r := probeResult{Got: string(b)}
	if err != nil {
		r.Error = err.Error()
	}
	return say(args[0], r)
}

// speak is a server of another protocol: it greets, reads to the end, answers.
func speak(args []string) error {
	ln, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = c.Close() }()
			_, _ = c.Write([]byte("hello"))
			b, _ := io.ReadAll(c)
			_, _ = fmt.Fprintf(c, " got %d bytes", len(b))
		}()
	}
}

// TestOtherTraffic: opaque protocols pass, server-first and half-closed; what is
// not steered is not touched; the mesh's own ports serve nobody.
func TestOtherTraffic(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	_, err := v2.StartHelper("speak", "[::]:7000")
	m.must(err)
	m.must(m.PutXDS("opaque.yaml", fmt.Appendf(nil, `resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: opaque
  address: {socket_address: {address: %s, port_value: 7000}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.tcp_proxy
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
        stat_prefix: opaque
        cluster: opaque
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: opaque
  type: STATIC
  connect_timeout: 1s
  load_assignment:
    cluster_name: opaque
    endpoints:
    - lb_endpoints: [{endpoint: {address: {socket_address: {address: "%s", port_value: 7000}}}}]
`, vip4, v2.Addresses[0])))
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1}), clusters: both(v1, v2)})
	m.start(consumer, v1, v2)
	m.eventually("the other server", func() bool {
		return m.probe(consumer, probe{Target: v2.Addr(7000).String(), First: true}).Got == "hello"
	})
	const pass = "hello got 3 bytes"
	for name, c := range map[string]struct {
		ask   probe
		want  string
		fails bool
	}{
		"opaque, server first":     {ask: probe{Target: vip4 + ":7000", First: true}, want: "hello"},
		"opaque, half-closed":      {ask: probe{Target: vip4 + ":7000", Say: "abc"}, want: pass},
		"not steered":              {ask: probe{Target: v2.Addr(7000).String(), Say: "abc"}, want: pass},
		"outbound port, directly":  {ask: probe{Target: "127.0.0.1:15001", Say: "abc"}, fails: true},
		"inbound port, directly":   {ask: probe{Target: consumer.Addr(15006).String(), Say: "abc"}, fails: true},
		"the mesh's mark, steered": {ask: probe{Target: vip4 + ":7000", Say: "abc", Mark: 1337}, want: pass},
	} {
		t.Run(name, func(t *testing.T) {
			r := m.probe(consumer, c.ask)
			if r.Got != c.want || c.fails && r.Error == "" && r.Got != "" {
				t.Errorf("%+v", r)
			}
		})
	}
	m.counted("dubway_connections_direct_total", 2)
	m.counted("istio_tcp_connections_opened_total{", 3, `source_workload="consumer"`, `reporter="source"`)
}

func (m *mesh) probe(p *testnet.Pod, ask probe) (r probeResult) {
	m.t.Helper()
	m.launch(p, "probe", ask)(&r)
	return r
}

// TestSelf: a pod that calls its own service through the mesh.
func TestSelf(t *testing.T) {
	m := newMesh(t)
	pod := m.pod("provider", 20880)
	m.provider(pod, "self")
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1}), clusters: map[string][]netip.AddrPort{"v1": {pod.Addr(20880)}}})
	m.start(pod)
	for _, target := range []string{vip4 + ":20880", pod.Addr(20880).String(), "127.0.0.1:20880"} {
		if r := m.calls(pod, callsOf{Target: target, N: 10, Timeout: 30 * time.Second}); r.Answers["self"] != 10 {
			t.Errorf("%s: %+v", target, r)
		}
	}
}

// TestWorkloadRemoved: connections of a pod that leaves the mesh go on, new ones
// are its own.
func TestWorkloadRemoved(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	r := routed{addresses: []string{v1.Addresses[0].String()}, routes: split(map[string]int{"v2": 1}), clusters: both(v1, v2)}
	m.put(r)
	m.start(consumer, v1, v2)
	target := v1.Addr(20880).String()
	during := m.background(consumer, callsOf{Target: target, N: 200, Pause: 10 * time.Millisecond, Timeout: 30 * time.Second})
	m.under()
	m.must(consumer.Withdraw())
	if got := during(); got.Answers["v2"] != 200 {
		t.Errorf("through the removal: %v %v", got.Answers, got.Errors)
	}
	m.eventually("the agent has let it go", func() bool {
		list, err := m.Workloads(m.ctx)
		return err == nil && !slices.ContainsFunc(list, func(w admin.WorkloadStatus) bool { return w.Name == "consumer" })
	})
	if got := m.calls(consumer, callsOf{Target: target, N: 5, Timeout: 30 * time.Second}); got.Answers["v1"] != 5 {
		t.Errorf("after the removal: %v %v", got.Answers, got.Errors)
	}
}
