package l7proxy

import (
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/xds/ads"
)

// controlled is a proxy whose configuration comes from a control plane.
func controlled(t *testing.T, id string) (*Proxy, error) {
	t.Helper()
	return New(Options{
		StateDir: t.TempDir(), XDSServer: "127.0.0.1:1", XDSNode: ads.Node{ID: id}, AccessLog: io.Discard,
		Logger: slog.New(slog.DiscardHandler), MaxFrame: 1 << 20, MaxConnections: 1, MaxTotal: 1,
	})
}

const someNode = "sidecar~10.0.0.9~dubway.mesh~mesh.svc.cluster.local"

func TestControlPlaneNeedsANode(t *testing.T) {
	if _, err := controlled(t, ""); err == nil || !strings.Contains(err.Error(), "sidecar~IP~POD.NAMESPACE") {
		t.Errorf("New = %v", err)
	}
}

// TestControlPlaneIsAway: the status says so, and the proxy is not ready.
func TestControlPlaneIsAway(t *testing.T) {
	p, err := controlled(t, someNode)
	if err != nil {
		t.Fatal(err)
	}
	defer p.pool.Close()
	s := p.status()
	c := s.ControlPlane
	if c == nil || c.Connected || c.Node != someNode || c.Updated != nil || s.Source != "control plane 127.0.0.1:1" {
		t.Errorf("status %+v, control plane %+v", s, c)
	}
	if len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "has not answered yet; there is no configuration") {
		t.Errorf("problems %q", s.Problems)
	}
}

func TestControlProblem(t *testing.T) {
	heard := time.Now()
	tests := []struct {
		plane *admin.ControlPlane
		want  string // "" for none
	}{
		{nil, ""},
		{&admin.ControlPlane{Connected: true}, ""},
		{&admin.ControlPlane{Reason: "refused", Kept: true}, "refused; what was kept on disk holds"},
		{&admin.ControlPlane{Reason: "refused", Updated: &heard}, "refused; what it said last goes on"},
	}
	for _, test := range tests {
		if got := controlProblem(test.plane); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%+v: %q, want %q", test.plane, got, test.want)
		}
	}
}

// TestControlMetricsAreDocumented compares docs/metrics.md with what is exposed only with a
// control plane.
func TestControlMetricsAreDocumented(t *testing.T) {
	p, err := controlled(t, someNode)
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
