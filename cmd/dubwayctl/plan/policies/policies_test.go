package policies

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dubway/dubway/cmd/dubwayctl/manifest"
)

// scenarios are what `make e2e-istiod` applies to a real istiod: what the proxy refuses of it,
// and what has no effect, is asserted there.
const scenarios = "../../../../internal/testnet/istiod/testdata"

// read reads manifests in which places are to be filled.
func read(t *testing.T, file string) []manifest.Object {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer("${FIRST}", "80", "${SECOND}", "20", "${MODE}", "STRICT", "${PORT}", "UNSET", "${VERSION}", "v1",
		"${V1}", "198.18.0.1", "${V2}", "198.18.0.2", "${CONSUMER}", "198.18.0.3", "${ENDPOINT}", "198.18.0.1").Replace(string(text))
	objects, err := manifest.Parse([]byte(filled))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return objects
}

// world knows of the objects what the command would.
func world(t *testing.T, objects []manifest.Object, pods ...*manifest.Pod) *World {
	t.Helper()
	w := &World{Namespace: "shop", Root: "istio-system", Domain: "cluster.local", Pods: pods, Numbers: []int{20880}}
	for i := range objects {
		o := &objects[i]
		var err error
		switch o.Type() {
		case "Service":
			s := new(manifest.Service)
			err = o.Into(s)
			w.Services = append(w.Services, s)
		case "ServiceEntry.networking.istio.io":
			e := new(Entry)
			err = o.Into(e)
			w.Entries = append(w.Entries, e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func pod(labels map[string]string) *manifest.Pod {
	return &manifest.Pod{Metadata: manifest.Metadata{Namespace: "shop", Name: "provider-1", Labels: labels}}
}

// TestScenarios: what real calls below a real istiod have shown of each scenario is what is
// said of its objects.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob(scenarios + "/*.yaml")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d scenarios: %v", len(files), err)
	}
	worst := map[string]Effect{
		"http-way-tls": Rejected, "sidecar-bind": Rejected, // refuses(...) in the scenario
		"tcp-port":         Lost,                                                                    // no rule has an effect
		"access-tcp":       Partly,                                                                  // denies everything
		"access-tcp-allow": Partly,                                                                  // allows nothing
		"http-ports":       Partly, "gateway-ports": Partly, "http-way": Partly, "failover": Partly, // HTTP itself is not read
		"consistent-hash": Ignored, "telemetry": Ignored,
		"tls-disable": Lost, // its host is that of tls-mode
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			objects := read(t, file)
			w := world(t, objects, pod(map[string]string{"app": "provider", "version": "v1"}), pod(map[string]string{"app": "provider", "version": "v2"}))
			got := Honoured
			for i := range objects {
				v, policy := w.Judge(&objects[i])
				if !policy {
					continue
				}
				if slices.Index(order, v.Effect) > slices.Index(order, got) {
					got = v.Effect
				}
				for _, f := range v.Findings {
					if f.Effect == Unknown {
						t.Errorf("%s: %s is unknown: %s", v.Kind, f.Field, f.Says)
					}
				}
			}
			want := worst[name]
			if want == "" {
				want = Honoured
			}
			if got != want {
				t.Errorf("the worst is %s, want %s", got, want)
			}
		})
	}
}

// TestCases: what is said to be rejected is what the plan scenario of `make e2e-istiod` sees
// refused.
func TestCases(t *testing.T) {
	text, err := os.ReadFile(scenarios + "/plan/cases.yaml")
	if err != nil {
		t.Fatal(err)
	}
	base := read(t, scenarios+"/plan/base.yaml")
	provider, consumer := pod(map[string]string{"app": "provider", "version": "v1"}), pod(map[string]string{"app": "consumer"})
	name, refused, n := "", false, 0
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		if !strings.Contains(document, "apiVersion:") {
			name, refused = document, strings.Contains(document, "refused:")
			continue
		}
		objects, err := manifest.Parse([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		w := world(t, append(objects, base...), provider, consumer)
		for i := range objects {
			n++
			v, policy := w.Judge(&objects[i])
			if !policy || (v.Effect == Rejected) != refused || v.Blocks() != refused {
				t.Errorf("%s: it is %s, and blocks: %v; refused: %v; %+v", name, v.Effect, v.Blocks(), refused, v.Findings)
			}
		}
	}
	if n < 20 {
		t.Errorf("%d objects: this test looks at nothing", n)
	}
}

func TestContexts(t *testing.T) {
	services := `
{apiVersion: v1, kind: Service, metadata: {name: orders, namespace: shop}, spec: {selector: {app: orders}, ports: [{name: dubbo, port: 20880}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {selector: {app: web}, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: old, namespace: shop}, spec: {selector: {app: old}, ports: [{name: tcp-dubbo, port: 20880}, {name: http, port: 80}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e, namespace: shop}, spec: {hosts: [com.x.Api], ports: [{number: 20880, name: tcp-dubbo, protocol: TCP}, {number: 20881, name: tcp-metaprotocol-redis, protocol: TCP}]}}
`
	tests := []struct {
		name   string
		object string
		effect Effect
		blocks bool
		says   string // a part of a finding, "" for none
		fix    string
	}{
		{"a rewrite of HTTP alone takes nothing from Dubbo", `{kind: VirtualService, spec: {hosts: [web], http: [{rewrite: {uri: /}}]}}`, Rejected, false, "passed on unread", ""},
		{"of a port that is Dubbo's it does", `{kind: VirtualService, spec: {hosts: [orders], http: [{rewrite: {uri: /}}]}}`, Rejected, true, "prefix_rewrite", ""},
		{"for gateways alone", `{kind: VirtualService, spec: {hosts: [orders], gateways: [front], http: [{rewrite: {uri: /}}]}}`, Ignored, false, "for gateways", ""},
		{"for the mesh too", `{kind: VirtualService, spec: {hosts: [orders], gateways: [front, mesh], http: [{}]}}`, Honoured, false, "", ""},
		{"an unknown host", `{kind: VirtualService, spec: {hosts: [nobody], http: [{}]}}`, Lost, false, "no Service or ServiceEntry nobody", ""},
		{"by all forms of a name", `{kind: VirtualService, spec: {hosts: [orders.shop.svc.cluster.local], http: [{}]}}`, Honoured, false, "", ""},
		{"by a pattern", `{kind: VirtualService, spec: {hosts: ["*.shop.svc.cluster.local"], http: [{match: [{port: 20880}]}]}}`, Lost, false, "tcp-dubbo", "patch service old"},
		{"a port of Dubbo that is TCP", `{kind: VirtualService, spec: {hosts: [old], http: [{}]}}`, Lost, false, "port 20880 (tcp-dubbo) of Service shop/old is declared as connections", `kubectl -n shop patch service old --type=json -p '[{"op":"add","path":"/spec/ports/0/appProtocol","value":"dubbo"}]'`},
		{"an entry, with capitals", `{kind: VirtualService, spec: {hosts: [com.x.api], http: [{}]}}`, Lost, false, "ServiceEntry shop/e", `kubectl -n shop patch serviceentry e --type=json -p '[{"op":"replace","path":"/spec/ports/0/protocol","value":"DUBBO"}]'`},
		{"connections of a port that is TCP", `{kind: VirtualService, spec: {hosts: [old], tcp: [{route: [{destination: {host: old}}]}]}}`, Honoured, false, "", ""},
		{"a policy for gateways", `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, spec: {targetRefs: [{kind: Gateway, name: x}], action: CUSTOM}}`, Ignored, false, "waypoints", ""},
		{"a policy that asks others", `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, spec: {action: CUSTOM, rules: [{}]}}`, Rejected, true, "ext_authz", ""},
		{"an allow by path on TCP", `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, spec: {selector: {matchLabels: {app: old}}, rules: [{to: [{operation: {paths: [/a]}}]}]}}`, Partly, true, "allows nothing", "patch service old"},
		{"an audit by path on TCP", `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, spec: {selector: {matchLabels: {app: old}}, action: AUDIT, rules: [{to: [{operation: {paths: [/a]}}]}]}}`, Partly, false, "logs", "patch service old"},
		{"an allow by principal on TCP", `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, spec: {selector: {matchLabels: {app: old}}, rules: [{from: [{source: {principals: [a]}}]}]}}`, Honoured, false, "", ""},
		{"claims of a token", `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, spec: {selector: {matchLabels: {app: orders}}, rules: [{when: [{key: "request.auth.claims[a]", values: [b]}]}]}}`, Ignored, false, "no JWT", ""},
		{"STRICT, with pods outside", `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, spec: {mtls: {mode: STRICT}}}`, Honoured, false, "2 pod(s) of the namespace stay outside", ""},
		{"code that selects nobody", `{apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, spec: {selector: {matchLabels: {app: nobody}}}}`, Ignored, false, "selects no pod", ""},
		{"the rest of a name", `{kind: DestinationRule, spec: {host: orders, somethingNew: 1}}`, Unknown, false, "does not know it", ""},
		{"a proxy's own", `{kind: ProxyConfig, spec: {concurrency: 2}}`, Ignored, false, "configures sidecars", ""},
		{"a patch of gateways", `{kind: EnvoyFilter, spec: {configPatches: [{applyTo: HTTP_FILTER, match: {context: GATEWAY}, patch: {value: {}}}]}}`, Ignored, false, "gateways", ""},
		{"a patch that is implemented", `{kind: EnvoyFilter, spec: {configPatches: [{applyTo: CLUSTER, patch: {operation: MERGE, value: {healthChecks: []}}}]}}`, Honoured, false, "implemented", ""},
		{"a codec that is not", `{apiVersion: metaprotocol.aeraki.io/v1alpha1, kind: ApplicationProtocol, spec: {protocol: redis}}`, Rejected, true, "only dubbo and thrift", ""},
		{"a codec that nobody asks for", `{apiVersion: metaprotocol.aeraki.io/v1alpha1, kind: ApplicationProtocol, spec: {protocol: brpc}}`, Ignored, false, "no port", ""},
		{"Aeraki's routes", `{apiVersion: metaprotocol.aeraki.io/v1alpha1, kind: MetaRouter, spec: {hosts: [a], routes: [{match: {attributes: {}}, requestMutation: []}]}}`, Honoured, false, "its controller stays", ""},
		{"Aeraki's own policy", `{apiVersion: dubbo.aeraki.io/v1alpha1, kind: DubboAuthorizationPolicy, spec: {}}`, Rejected, true, "Write an AuthorizationPolicy", ""},
		{"a route of gateways", `{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, spec: {parentRefs: [{name: front}]}}`, Ignored, false, "for gateways", ""},
		{"a route of a port that is TCP", `{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, spec: {parentRefs: [{kind: Service, name: old, port: 20880}]}}`, Lost, false, "sends no routes", "patch service old"},
	}
	objects, err := manifest.Parse([]byte(services))
	if err != nil {
		t.Fatal(err)
	}
	w := world(t, objects, pod(map[string]string{"app": "orders"}), pod(map[string]string{"app": "old"}))
	w.Outside = 2
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			text := test.object
			if !strings.Contains(text, "apiVersion") {
				text = "{apiVersion: networking.istio.io/v1, " + strings.TrimPrefix(text, "{")
			}
			some, err := manifest.Parse([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			some[0].Metadata = manifest.Metadata{Name: "x", Namespace: "shop"}
			v, policy := w.Judge(&some[0])
			if !policy || v.Effect != test.effect || v.Blocks() != test.blocks {
				t.Errorf("policy %v, %s, blocks %v; want %s, %v: %+v", policy, v.Effect, v.Blocks(), test.effect, test.blocks, v.Findings)
			}
			said, fixed := test.says == "" && len(v.Findings) == 0, test.fix == ""
			for _, f := range v.Findings {
				said = said || test.says != "" && strings.Contains(f.Says, test.says)
				fixed = fixed || strings.Contains(f.Fix, test.fix)
			}
			if !said || !fixed {
				t.Errorf("it says %+v, want %q and the fix %q", v.Findings, test.says, test.fix)
			}
		})
	}
}

// TestTables: a line that another hides is none.
func TestTables(t *testing.T) {
	for name, k := range kinds {
		seen := map[string]bool{}
		for _, f := range k.fields {
			key := f.path + strings.Join(f.values, ",")
			if seen[key] && name != "GRPCRoute.gateway.networking.k8s.io" {
				t.Errorf("%s has two lines for %s", name, key)
			}
			seen[key] = true
			if (f.effect != Honoured && f.says == "") || strings.HasSuffix(f.says, ".") || !strings.HasPrefix(f.path, "spec.") {
				t.Errorf("%s: the line %q is not complete: %+v", name, f.path, f)
			}
		}
	}
}
