package xds

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/destinations"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got\n%s\nfirst difference: %s", path, got, firstDifference(got, string(want)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d: got %q, want %q", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

// report prints rejections with all their problems.
func report(rejected []Rejection) string {
	var b strings.Builder
	for _, r := range rejected {
		fmt.Fprintf(&b, "%s %s\n", r.Kind, r.Name)
		for _, p := range append([]Field{{Field: r.Field, Reason: r.Reason}}, r.More...) {
			fmt.Fprintf(&b, "  %s\n", p.Error())
		}
	}
	return b.String()
}

// TestGolden converts testdata/golden/NAME.yaml, all of it, to NAME.golden.
func TestGolden(t *testing.T) {
	for _, path := range glob(t, "testdata/golden/*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			s, rejected := Load([]string{path})
			if len(rejected) > 0 {
				t.Errorf("rejected:\n%s", report(rejected))
			}
			consistent(t, s)
			golden(t, strings.TrimSuffix(path, ".yaml")+".golden", dump(s))
		})
	}
}

// TestRejected reads testdata/rejected/NAME.yaml: every resource is wrong in
// exactly one way, which NAME.golden says.
func TestRejected(t *testing.T) {
	for _, path := range glob(t, "testdata/rejected/*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			s, rejected := Load([]string{path})
			if n := len(s.Listeners) + len(s.Inbounds) + len(s.Routes) + len(s.Clusters); n > 0 {
				t.Errorf("%d resources were accepted:\n%s", n, dump(s))
			}
			for _, r := range rejected {
				if len(r.More) > 0 {
					t.Errorf("%s %s is wrong in more than one way: %s: %s; and %v", r.Kind, r.Name, r.Field, r.Reason, r.More)
				}
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".golden", report(rejected))
		})
	}
}

// TestIstiod reads what a real istiod sends.
func TestIstiod(t *testing.T) {
	for _, dir := range glob(t, "testdata/istiod/*") {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			from := dir
			if strings.HasSuffix(dir, ".provider") {
				from = named(t, dir)
			}
			s, rejected := Load([]string{from})
			consistent(t, s)
			golden(t, dir+".golden", "# rejected\n"+report(rejected)+"# applied\n"+dump(s))
		})
	}
}

// named copies what istiod sent to a provider and says whose it is, which the stream
// says that it came by.
func named(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	for _, path := range glob(t, dir+"/*.json") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var list []map[string]any
		if err := json.Unmarshal(text, &list); err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			if r["trafficDirection"] == "INBOUND" {
				r["metadata"] = map[string]any{"filterMetadata": map[string]any{"dubway.io": map[string]any{"workload": "dubbo-demo/provider"}}}
			}
		}
		if text, err = json.Marshal(list); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(path)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	return paths
}

// consistent checks what router and cluster rely on without looking.
func consistent(t *testing.T, s *snapshot.Snapshot) {
	t.Helper()
	for _, l := range s.Listeners {
		if !l.Prefix.IsValid() || l.Prefix != l.Prefix.Masked() {
			t.Errorf("listener %s: prefix %s", l.Name, l.Prefix)
		}
		if l.Route != s.Routes[l.RouteName] {
			t.Errorf("listener %s: its route is not the snapshot's %q", l.Name, l.RouteName)
		}
		if l.RouteName == "" && len(l.TCP) == 0 {
			t.Errorf("listener %s does nothing", l.Name)
		}
		if len(l.TCP) > 0 && sum(l.TCP) == 0 {
			t.Errorf("listener %s: the weights sum to 0", l.Name)
		}
	}
	for _, in := range s.Inbounds {
		if in.Address.IsValid() == (in.Workload != "") || in.Known == nil || in.Plain == nil || in.TLS == nil {
			t.Errorf("inbound %s: whose it is, or one of its listeners, is missing", in.Name)
		}
	}
	for name, c := range s.Routes {
		if c == nil || c.Name != name {
			t.Errorf("route configuration %q is under a wrong name", name)
			continue
		}
		for _, v := range c.VirtualHosts {
			for _, r := range v.Routes {
				consistentRoute(t, r)
				if c.Static && needsBody(r) {
					t.Errorf("%s needs the body, but its table is static", r.Origin)
				}
			}
		}
	}
	for name, c := range s.Clusters {
		if c == nil || c.Name != name || c.ConnectTimeout <= 0 || c.DNSRefresh <= 0 || c.ChoiceCount < 2 || c.Overprovision == 0 {
			t.Errorf("cluster %q: %+v", name, c)
			continue
		}
		consistentBalancing(t, c)
		for _, l := range c.Localities {
			for _, e := range l.Endpoints {
				if e.Address.IsValid() == (e.Hostname != "") || e.Port == 0 || e.Weight == 0 {
					t.Errorf("cluster %q: endpoint %+v", name, e)
				}
				if e.Hostname != "" && c.Kind != snapshot.ClusterStrictDNS {
					t.Errorf("cluster %q: a host name, but no DNS", name)
				}
			}
		}
	}
	for _, d := range destinations.Of(s) {
		if d.Prefix.Addr().IsLoopback() {
			t.Errorf("destination %s is loopback", d.Prefix)
		}
	}
}

// consistentBalancing checks what would divide by zero, spin or never end.
func consistentBalancing(t *testing.T, c *snapshot.Cluster) {
	t.Helper()
	h := c.Hashing
	if c.Policy == snapshot.RingHash && (h.MinRing == 0 || h.MinRing > h.MaxRing || h.MaxRing > 8<<20) || c.Policy == snapshot.Maglev && h.TableSize < 2 {
		t.Errorf("cluster %q: hashing %+v", c.Name, h)
	}
	if s := c.SlowStart; s != nil && (s.Window <= 0 || !(s.Aggression > 0) || !(s.Least >= 0 && s.Least <= 1)) {
		t.Errorf("cluster %q: slow start %+v", c.Name, s)
	}
	if o := c.Outlier; o != nil && (o.Interval <= 0 || o.BaseEjection <= 0 || o.MaxEjection < o.BaseEjection || o.MaxEjected > 100) {
		t.Errorf("cluster %q: outlier detection %+v", c.Name, o)
	}
	if k := c.Check; k != nil && (k.Timeout <= 0 || k.Interval <= 0 || k.Unhealthy <= 0 || k.HealthyEdge <= 0 || k.UnhealthyEdge <= 0 || k.Fails == 0 || k.Passes == 0) {
		t.Errorf("cluster %q: check %+v", c.Name, k)
	}
	if z := c.ZoneAware; z != nil && !(z.Enabled >= 0 && z.Enabled <= 1) {
		t.Errorf("cluster %q: zones %+v", c.Name, z)
	}
	if !(c.Bias >= 0) {
		t.Errorf("cluster %q: bias %v", c.Name, c.Bias)
	}
}

func consistentRoute(t *testing.T, r *snapshot.Route) {
	t.Helper()
	if direct := r.Action.Direct != nil; direct != (len(r.Action.Clusters) == 0) || !direct && r.Action.Total == 0 || r.Action.Total != sum(r.Action.Clusters) {
		t.Errorf("%s: action %+v", r.Origin, r.Action)
	}
	if (r.Match.PathKind == snapshot.PathRegex) != (r.Match.PathRegex != nil) || r.Match.Fraction > million {
		t.Errorf("%s: match %+v", r.Origin, r.Match)
	}
	body := false
	for _, h := range r.Action.Hash {
		body = body || !h.SourceIP && (h.Source != snapshot.SourceName || !slices.Contains(names, h.Name))
	}
	if body != r.Action.HashBody {
		t.Errorf("%s: hash %+v", r.Origin, r.Action)
	}
	for _, h := range r.Match.Headers {
		isArgument := h.Source == snapshot.SourceArgument
		if (h.Kind == snapshot.HeaderRegex) != (h.Regex != nil) || (h.Name == "") != isArgument || h.Index != 0 && !isArgument || h.Index < 0 {
			t.Errorf("%s: header %+v", r.Origin, h)
		}
		if h.Longer && h.Kind != snapshot.HeaderPrefix && h.Kind != snapshot.HeaderSuffix {
			t.Errorf("%s: a wildcard %+v", r.Origin, h)
		}
	}
}

// names are what is known of a request without its body.
var names = []string{"interface", "method", "version", ":path", ":authority", ":method"}

// needsBody tells whether a route cannot be chosen by names alone.
func needsBody(r *snapshot.Route) bool {
	return slices.ContainsFunc(r.Match.Headers, func(h snapshot.HeaderMatch) bool {
		return h.Source != snapshot.SourceName || !slices.Contains(names, h.Name)
	})
}

const million = 1_000_000

func sum(list []snapshot.WeightedCluster) uint64 {
	var total uint64
	for _, c := range list {
		total += uint64(c.Weight)
	}
	return total
}
