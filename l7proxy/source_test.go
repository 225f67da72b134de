package l7proxy

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/handoff/lack"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/steering"
	"github.com/dubway/dubway/l7proxy/workload"
)

// controlled is a proxy whose configuration comes from a control plane.
func controlled(t *testing.T, server string) (*Proxy, error) {
	t.Helper()
	return New(Options{
		StateDir: t.TempDir(), XDSServer: server, Domain: "cluster.local", AccessLog: io.Discard,
		Logger: slog.New(slog.DiscardHandler), MaxFrame: 1 << 20, MaxConnections: 1, MaxTotal: 1,
	})
}

const nobody = "127.0.0.1:1"

func TestControlPlaneNeedsAPort(t *testing.T) {
	if _, err := controlled(t, "istiod"); err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
		t.Errorf("New = %v", err)
	}
}

// TestControlPlaneIsAway: the status says so, and the proxy is not ready.
func TestControlPlaneIsAway(t *testing.T) {
	p, err := controlled(t, nobody)
	if err != nil {
		t.Fatal(err)
	}
	defer p.pool.Close()
	if !p.configured() {
		t.Error("without pods it is not ready")
	}
	p.sees(workload.New(handoff.Workload{
		UID: "1", Name: "a", Namespace: "shop", ServiceAccount: "default", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.9")},
	}))
	if p.configured() {
		t.Error("it is ready without anything that it could do for its pod")
	}
	if l := p.lacks("1"); l != lack.View {
		t.Errorf("before it was asked for: the pod lacks %q", l)
	}
	s := p.status()
	c := s.ControlPlane
	if c == nil || len(c.Views) != 1 || s.Source != "control plane 127.0.0.1:1" {
		t.Fatalf("status %+v, control plane %+v", s, c)
	}
	if v := c.Views[0]; v.Connected || v.Node != "sidecar~10.0.0.9~a.shop~shop.svc.cluster.local" || v.Updated != nil || v.Key != "shop/default" {
		t.Errorf("view %+v", v)
	}
	if len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "has not answered yet; there is no configuration: their calls go past the mesh") {
		t.Errorf("problems %q", s.Problems)
	}
}

// TestLacks: a workload lacks its view until it came, the control plane while that is away,
// and then its table until the agent has it, in each connection.
func TestLacks(t *testing.T) {
	p, err := controlled(t, nobody)
	if err != nil {
		t.Fatal(err)
	}
	defer p.pool.Close()
	p.sees(workload.New(handoff.Workload{
		UID: "1", Name: "a", Namespace: "shop", ServiceAccount: "default", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.9")},
	}))
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = p.source.Run(ctx) })
	t.Cleanup(func() { cancel(); run.Wait() })
	for range 3000 {
		if p.lacks("1") == lack.Plane {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if l := p.lacks("1"); l != lack.Plane {
		t.Errorf("the control plane is away: the pod lacks %q", l)
	}
	if l := p.lacks("stranger"); l != lack.View {
		t.Errorf("a pod that nobody can ask for lacks %q", l)
	}
	seen := &snapshot.Snapshot{Generation: 1}
	p.sight.Put([]snapshot.View{{Key: "shop/default", Snapshot: seen, Workloads: []string{"1"}}})
	want := func(what string, l lack.Lack) {
		t.Helper()
		if got := p.lacks("1"); got != l {
			t.Errorf("%s: the pod lacks %q, want %q", what, got, l)
		}
	}
	want("without an agent", lack.Table)
	p.steering = steering.New(steering.Options{Agent: agrees{}, Viewed: true})
	if err := p.steering.Tell(t.Context(), 1, p.sight.Views()); err != nil {
		t.Fatal(err)
	}
	p.connected.Store(true)
	want("in force", lack.None)
	p.afresh.Store(true)
	want("in another connection", lack.Table)
}

// TestNobody: of a node without pods the agent is told that nobody is steered. A generation of
// 0 would be refused (internal/handoff), and an agent that heard of none is never ready.
func TestNobody(t *testing.T) {
	p, err := controlled(t, nobody)
	if err != nil {
		t.Fatal(err)
	}
	defer p.pool.Close()
	told := make(chan uint64, 1)
	p.steering = steering.New(steering.Options{Agent: tells(told), Viewed: true})
	if err := p.SnapshotEnd(); err != nil {
		t.Fatal(err)
	}
	var run sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	run.Go(func() { _ = p.publishDestinations(ctx) })
	t.Cleanup(func() { cancel(); run.Wait() })
	select {
	case generation := <-told:
		if generation == 0 {
			t.Error("it was told without a generation")
		}
	case <-time.After(30 * time.Second):
		t.Error("it was told nothing")
	}
}

// tells is an agent that takes everything, and says of which generation the first was.
type tells chan uint64

func (a tells) Destinations(_ context.Context, generation uint64, _ handoff.DestinationTable) error {
	select {
	case a <- generation:
	default:
	}
	return nil
}

// agrees is an agent that takes everything.
type agrees struct{}

func (agrees) Destinations(context.Context, uint64, handoff.DestinationTable) error { return nil }

// TestControlMetricsAreDocumented compares docs/metrics.md with what is exposed only with a
// control plane.
func TestControlMetricsAreDocumented(t *testing.T) {
	p, err := controlled(t, nobody)
	if err != nil {
		t.Fatal(err)
	}
	defer p.pool.Close()
	families, err := p.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	always := documented(t, "dubway-proxy")
	exposed := map[string]string{}
	for _, f := range families {
		if name := f.GetName(); strings.HasPrefix(name, "dubway_xds_") && always[name] == "" {
			exposed[name] = strings.ToLower(f.GetType().String()) + " "
		}
	}
	if want := documented(t, "With a control plane"); !maps.Equal(exposed, want) || len(want) == 0 {
		t.Errorf("exposed are %q, documented %q", slices.Sorted(maps.Keys(exposed)), slices.Sorted(maps.Keys(want)))
	}
}
