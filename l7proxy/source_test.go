package l7proxy

import (
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
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

func TestControlProblem(t *testing.T) {
	heard := time.Now()
	tests := []struct {
		view *admin.ControlView // nil: there is no control plane
		want string             // "" for none
	}{
		{nil, ""},
		{&admin.ControlView{Connected: true}, ""},
		{&admin.ControlView{Reason: "refused", Kept: true}, "refused; what was kept on disk holds"},
		{&admin.ControlView{Reason: "refused", Updated: &heard}, "refused; what it said last goes on"},
	}
	for _, test := range tests {
		var plane *admin.ControlPlane
		if test.view != nil {
			plane = &admin.ControlPlane{Views: []admin.ControlView{*test.view}}
		}
		got := strings.Join(controlProblems(plane), "\n")
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%+v: %q, want %q", test.view, got, test.want)
		}
	}
}

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
