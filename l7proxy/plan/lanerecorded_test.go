package plan

import (
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
	"github.com/dubway/dubway/l7proxy/xds"
)

var update = flag.Bool("update", false, "write the golden file anew")

// recorded is what a real istiod sent: a folder for each scenario and node.
const recorded = "../xds/testdata/istiod"

// named is a request of an interface and a method.
func named(iface, method string) (codec.Header, []byte) {
	body := []byte("\x052.0.2")
	body = append(append(body, 0x30, byte(len(iface))), iface...)
	body = append(append(append(body, "\x050.0.0"...), byte(len(method))), method...)
	body = append(body, "\x12Ljava/lang/String;"...)
	return codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | dubbo.Hessian2, ID: 1, Body: len(body)}, body
}

// ineligible are calls that end nowhere, and those that are the proxy's by what their
// configuration asks for.
var ineligible = []verdict.Reason{
	verdict.NoRoute, verdict.NoCluster, verdict.NoEndpoint,
	verdict.ByBody, verdict.Hashed, verdict.Traced, verdict.Remote,
}

// TestLaneByRecordedConfiguration: what a stock istiod says leaves nearly all calls between
// pods of one node to the kernel; testdata/lane.golden has which, and why not the others.
// All endpoints are of this node, and providers end TLS where they take nothing else.
func TestLaneByRecordedConfiguration(t *testing.T) {
	all, err := filepath.Glob(recorded + "/*")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	lanes, eligible := 0, 0
	for _, dir := range all {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() || strings.HasSuffix(dir, ".provider") {
			continue
		}
		s, _ := xds.Load([]string{dir})
		fmt.Fprintf(&b, "%s\n", filepath.Base(dir))
		for _, to := range meant(s) {
			for _, one := range []struct{ iface, method string }{
				{"org.apache.dubbo.samples.basic.api.DemoService", "sayHello"}, {"com.x.Demo", "sayBye"},
			} {
				v := judgedOf(t, s, dir, to, one.iface, one.method)
				if !slices.Contains(ineligible, v.Reason) {
					eligible++
				}
				if v.Reason == verdict.Lane {
					lanes++
				}
				fmt.Fprintf(&b, "  %s %s.%s: %s%s\n", to, one.iface, one.method, v.Reason, shared(&v))
			}
		}
	}
	fmt.Fprintf(&b, "in the lane: %d of %d calls that are eligible\n", lanes, eligible)
	path := filepath.Join("testdata", "lane.golden")
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
		t.Errorf("%s differs (go test ./l7proxy/plan -run Recorded -update); got\n%s", path, got)
	}
	if lanes*100 < eligible*95 {
		t.Errorf("%d of %d calls are in the lane", lanes, eligible)
	}
}

// shared writes among whom the kernel chooses.
func shared(v *verdict.Verdict) string {
	var b strings.Builder
	for _, s := range v.Shares {
		fmt.Fprintf(&b, " %d(", s.Weight)
		for i, e := range s.Ends {
			if i > 0 {
				b.WriteByte(' ')
			}
			fmt.Fprintf(&b, "%s*%d", e.Address, e.Weight)
		}
		b.WriteByte(')')
	}
	return b.String()
}

// meant lists what consumers may dial: addresses of listeners, those in domains of listeners
// at any address, and providers that listeners are for.
func meant(s *snapshot.Snapshot) (list []netip.AddrPort) {
	for _, l := range s.Listeners {
		if l.RouteName == "" {
			continue // opaque
		}
		if l.Prefix.IsSingleIP() {
			list = append(list, netip.AddrPortFrom(l.Prefix.Addr(), l.Port))
		} else if l.Route != nil {
			for _, vh := range l.Route.VirtualHosts {
				for _, d := range vh.Domains {
					if ip, err := netip.ParseAddr(d); err == nil && ip.Is4() {
						list = append(list, netip.AddrPortFrom(ip, l.Port))
					}
				}
			}
		}
	}
	for _, at := range providers(s) {
		if l := s.Listener(at); l != nil && l.RouteName != "" {
			list = append(list, at)
		}
	}
	slices.SortFunc(list, netip.AddrPort.Compare)
	return slices.Compact(list)
}

// providers lists the addresses of all endpoints.
func providers(s *snapshot.Snapshot) (list []netip.AddrPort) {
	for _, c := range s.Clusters {
		for _, l := range c.Localities {
			for _, e := range l.Endpoints {
				if e.Address.IsValid() {
					list = append(list, e.Address)
				}
			}
		}
	}
	slices.SortFunc(list, netip.AddrPort.Compare)
	return slices.Compact(list)
}

// judgedOf plans a call and judges it.
func judgedOf(t *testing.T, s *snapshot.Snapshot, dir string, to netip.AddrPort, iface, method string) verdict.Verdict {
	t.Helper()
	r := newRig(t, to)
	r.mgr.Close()
	r.mgr = cluster.NewManager(slog.New(slog.DiscardHandler), cluster.Options{})
	t.Cleanup(r.mgr.Close)
	r.env.Clusters, r.snap = r.mgr, s
	r.mgr.Update(s)
	strict := strings.Contains(dir, "strict")
	r.env.Lane.Guarded = func(_ *workload.Workload, k upstream.Key) bool { return strict && k.TLS.On }
	pods := make(map[netip.Addr][]uint16)
	for _, at := range providers(s) {
		pods[at.Addr()] = append(pods[at.Addr()], at.Port())
	}
	for at, ports := range pods {
		r.env.Workloads.Put(workload.New(handoff.Workload{
			UID: at.String(), Name: "p", Namespace: "shop", Addresses: []netip.Addr{at}, Ports: ports,
		}))
	}
	h, body := named(iface, method)
	return r.lane(t, h, body)
}
