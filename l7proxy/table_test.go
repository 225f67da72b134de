package l7proxy_test

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds"
)

// The hosts of the recordings, and their addresses.
const (
	provider = "provider.dubbo-demo.svc.cluster.local"
	entry    = "org.apache.dubbo.samples.basic.api.demoservice"
	headless = "provider-headless.dubbo-demo.svc.cluster.local"

	providerAddress = "198.19.0.20:20880"
	entryAddress    = "240.240.0.1:20880"
	podAddress      = "198.18.1.11:20880"
)

// leads is a call under a recorded scenario and where it must go.
type leads struct {
	scenario    string
	to          string
	call        string // IFACE.METHOD; "": an opaque connection
	group       string
	version     string
	attachments map[string]string
	outcome     string
	clusters    []string // SUBSET of HOST, and its weight
	config      string   // the object that the route was made of
}

// TestIstiodLeads holds the recordings against what Istio documents of each way to declare
// a port: which calls a VirtualService or an HTTPRoute routes, and which it does not.
func TestIstiodLeads(t *testing.T) {
	const hello = "com.x.Demo.sayHello"
	user := map[string]string{"arg.0": "jason"}
	cases := []leads{
		// A plain Service: by the port's name or appProtocol.
		{scenario: "plain-tcp-dubbo", to: providerAddress, call: hello, outcome: "tcp", clusters: []string{" 1"}},
		{scenario: "plain-appproto-tcp", to: providerAddress, call: hello, outcome: "tcp", clusters: []string{" 1"}},
		{scenario: "plain-name-dubbo", to: providerAddress, call: hello, outcome: "route", clusters: []string{" 1"}},
		{scenario: "plain-name-dubbo", to: providerAddress, outcome: "tcp", clusters: []string{" 1"}},
		{scenario: "plain-appproto-dubbo", to: providerAddress, call: hello, outcome: "route", clusters: []string{" 1"}},
		// VirtualService.http: on a port named dubbo, and in vain on tcp-dubbo.
		{scenario: "dubbo-port-http-rules", to: providerAddress, call: "com.x.Other.any", outcome: "route",
			clusters: []string{"v1 90", "v2 10"}, config: "virtual-service dubbo-demo/provider"},
		{scenario: "dubbo-port-http-rules", to: providerAddress, outcome: "tcp", clusters: []string{" 1"}},
		{scenario: "tcp-port-http-rules", to: providerAddress, call: hello, outcome: "tcp", clusters: []string{" 1"}},
		// The HTTP way: one listener for all services of the port, told by their addresses.
		{scenario: "http-way", to: entryAddress, call: "com.x.Demo.forbidden", outcome: "refuse", config: "virtual-service dubbo-demo/demoservice"},
		{scenario: "http-way", to: entryAddress, call: hello, group: "blue", outcome: "route", clusters: nil,
			config: "virtual-service dubbo-demo/demoservice"},
		// A ServiceEntry with an address that istiod allocates.
		{scenario: "se-dubbo-port", to: entryAddress, call: hello, outcome: "route",
			clusters: []string{"v1 90", "v2 10"}, config: "virtual-service dubbo-demo/demoservice"},
		{scenario: "se-dubbo-port", to: entryAddress, call: hello, attachments: user, outcome: "route",
			clusters: nil, config: "virtual-service dubbo-demo/demoservice"},
		// Headless: a listener for each pod.
		{scenario: "headless-dubbo-port", to: podAddress, call: hello, outcome: "route",
			clusters: []string{"v2 1"}, config: "virtual-service dubbo-demo/h"},
		{scenario: "headless-dubbo-port", to: podAddress, call: "com.x.Demo.other", outcome: "route",
			clusters: []string{" 1"}, config: "virtual-service dubbo-demo/h"},
		{scenario: "headless", to: podAddress, call: hello, outcome: "tcp", clusters: []string{" 1"}},
		// Gateway API on a port named dubbo.
		{scenario: "gamma-dubbo-port", to: providerAddress, call: hello, outcome: "route", clusters: nil,
			config: "virtual-service dubbo-demo/dubbo-demo~20880~" + provider},
		// Triple, by its path.
		{scenario: "l7-services", to: "198.19.0.22:50051", call: "org.apache.dubbo.samples.tri.Greeter.sayHello", outcome: "route",
			clusters: nil, config: "virtual-service dubbo-demo/tri"},
		// What nobody knows.
		{scenario: "registry-only", to: "203.0.113.1:443", outcome: "unreachable"},
		{scenario: "registry-only", to: "127.0.0.1:443", outcome: "pass"},
		// By hosts: of a VIP, of a ServiceEntry, of pods, and of neither: providers alone.
		{scenario: "dubbo-port-http-rules", to: provider, call: hello, outcome: "route",
			clusters: []string{"v2 1"}, config: "virtual-service dubbo-demo/provider"},
		{scenario: "se-dubbo-port", to: entry, call: hello, outcome: "route",
			clusters: []string{"v1 90", "v2 10"}, config: "virtual-service dubbo-demo/demoservice"},
		{scenario: "headless-dubbo-port", to: headless + ":20880", call: hello, outcome: "route",
			clusters: []string{"v2 1"}, config: "virtual-service dubbo-demo/h"},
		{scenario: "plain-name-dubbo", to: "203.0.113.1:443", outcome: "pass"},
	}
	for _, c := range cases {
		t.Run(c.scenario+" "+c.call, func(t *testing.T) {
			s, _ := xds.Load([]string{filepath.Join(recorded, c.scenario)})
			q := admin.ExplainRequest{To: c.to, Group: c.group, Version: c.version, Attachments: c.attachments}
			if dot := strings.LastIndexByte(c.call, '.'); dot > 0 {
				q.Interface, q.Method = c.call[:dot], c.call[dot+1:]
			}
			e, err := l7proxy.Explain(s, q)
			if err != nil {
				t.Fatal(err)
			}
			var clusters []string
			for _, to := range e.Clusters {
				parts := strings.Split(to.Cluster, "|")
				if len(parts) != 4 || parts[3] != provider && parts[3] != entry && parts[3] != headless && c.clusters != nil {
					t.Fatalf("leads to %s", to.Cluster)
				}
				clusters = append(clusters, parts[2]+" "+strconv.Itoa(int(to.Weight)))
			}
			if e.Outcome != c.outcome || e.Config != c.config || c.clusters != nil && !slices.Equal(clusters, c.clusters) {
				t.Errorf("outcome %s to %q by %q; want %s to %q by %q", e.Outcome, clusters, e.Config, c.outcome, c.clusters, c.config)
			}
		})
	}
}

// TestIstiodUnknown: what istiod says of destinations that it does not know.
func TestIstiodUnknown(t *testing.T) {
	for _, dir := range scenarios(t) {
		want := snapshot.UnknownPass
		if name := filepath.Base(dir); name == "registry-only" || name == "sidecar-resource.other" {
			want = snapshot.UnknownRefuse
		}
		if s, _ := xds.Load([]string{dir}); s.Unknown != want {
			t.Errorf("%s: %v, want %v", dir, s.Unknown, want)
		}
	}
}
