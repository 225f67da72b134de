package l7proxy_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds"
)

var update = flag.Bool("update", false, "write the golden files anew")

// recorded is what a real istiod sent: a folder for each scenario and node.
const recorded = "xds/testdata/istiod"

// asked are the calls that are explained of each address.
var asked = []admin.ExplainRequest{
	{},
	{Interface: "org.apache.dubbo.samples.basic.api.DemoService", Method: "sayHello"},
	{Interface: "com.x.Demo", Method: "sayBye", Attachments: map[string]string{"user": "jason", "env": "gray"}},
}

// TestIstiodExplained explains calls to every address that the recorded consumers may
// dial, and to one that nobody knows. xds/testdata/istiod/SCENARIO.golden has the
// snapshot that the answers are of.
func TestIstiodExplained(t *testing.T) {
	for _, dir := range scenarios(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			s, _ := xds.Load([]string{dir})
			var b strings.Builder
			for _, to := range append(dialled(s), "203.0.113.1:443") {
				for _, q := range asked {
					q.To = to
					explained(t, &b, s, q)
				}
			}
			path := filepath.Join("testdata", "istiod", filepath.Base(dir)+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := b.String(); got != string(want) {
				t.Errorf("%s differs (go test ./l7proxy -run Istiod -update); got\n%s", path, got)
			}
		})
	}
}

// scenarios are the recorded consumers' folders.
func scenarios(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(recorded + "/*")
	if err != nil || len(all) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	return slices.DeleteFunc(all, func(path string) bool {
		info, err := os.Stat(path)
		return err != nil || !info.IsDir() || strings.HasSuffix(path, ".provider")
	})
}

// dialled lists what consumers may dial: the addresses of listeners, and those in the
// domains of listeners at any address.
func dialled(s *snapshot.Snapshot) []string {
	var list []string
	for _, l := range s.Listeners {
		if l.Prefix.IsSingleIP() {
			list = append(list, netip.AddrPortFrom(l.Prefix.Addr(), l.Port).String())
			continue
		}
		if l.Route == nil {
			continue
		}
		for _, vh := range l.Route.VirtualHosts {
			for _, d := range vh.Domains {
				if ip, err := netip.ParseAddr(d); err == nil && ip.Is4() {
					list = append(list, netip.AddrPortFrom(ip, l.Port).String())
				}
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// explained writes what becomes of one call.
func explained(t *testing.T, b *strings.Builder, s *snapshot.Snapshot, q admin.ExplainRequest) {
	t.Helper()
	e, err := l7proxy.Explain(s, q)
	if err != nil {
		t.Fatal(err)
	}
	what := "a connection"
	if q.Interface != "" {
		what = q.Interface + "." + q.Method
	}
	fmt.Fprintf(b, "%s to %s: %s", what, q.To, e.Outcome)
	if e.Reason != "" {
		fmt.Fprintf(b, ": %s", e.Reason)
	}
	b.WriteByte('\n')
	for _, step := range e.Steps {
		fmt.Fprintf(b, "  %s | %s | %s\n", step.Object, step.Verdict, step.Why)
	}
	if len(e.Endpoints) > 0 {
		fmt.Fprintf(b, "  endpoints %s\n", strings.Join(e.Endpoints, " "))
	}
}
