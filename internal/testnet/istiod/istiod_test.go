//go:build e2e

package istiod_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// scenarios are what is written into the API, and what becomes of calls.
var scenarios = []struct {
	name     string
	recorded string // in l7proxy/xds/testdata/istiod, what asks for the same
	run      func(w *world)
}{
	{"ports", "plain-name-dubbo plain-appproto-dubbo plain-tcp-dubbo plain-appproto-tcp", (*world).ports},
	{"dubbo port", "dubbo-port-http-rules", (*world).dubboPort},
	{"weights", "", (*world).weights},
	{"endpoints", "endpoint-health", (*world).endpoints},
	{"tcp port", "tcp-port-http-rules", (*world).tcpPort},
	{"tcp weights", "", (*world).tcpWeights},
	{"http ports", "l7-services", (*world).httpPorts},
	{"headless", "headless-dubbo-port", (*world).headless},
	{"headless, tcp", "headless", (*world).headlessTCP},
	{"service entry", "", (*world).serviceEntry},
	{"service entry, policies", "se-dubbo-port", (*world).entryPolicies},
	{"helm test", "", (*world).helmTest},
	{"changes", "", (*world).changes},
	{"failover", "http-way-failover", (*world).failover},
	{"http way", "http-way", (*world).httpWay},
	{"consistent hash", "http-way-consistent-hash", (*world).consistentHash},
	{"dubbo_proxy", "dubbo-proxy", (*world).dubboProxy},
	{"aeraki", "aeraki", (*world).aeraki},
	{"gateway api", "gamma-dubbo-port", (*world).gatewayAPI},
	{"gateway api, other ports", "gamma", (*world).gatewayPorts},
	{"telemetry", "telemetry", (*world).telemetry},
	{"who is let in", "security-strict security-permissive security-portlevel", (*world).peers},
	{"TLS mode", "security-tlsmode security-disable", (*world).tlsMode},
	{"foreign TLS", "http-way-tls", (*world).foreignTLS},
	{"sidecar", "", (*world).sidecar},
	{"sidecar that binds", "sidecar-resource", (*world).sidecarBinds},
	{"registry only", "registry-only", (*world).registryOnly},
	{"plan", "", (*world).plans},
	{"authorization", "", (*world).authorization},
	{"authorization of connections", "", (*world).authorizationTCP},
	{"principals", "", (*world).principals},
	{"access", "authz-dubbo-port", (*world).access},
	{"access of connections", "authz", (*world).accessTCP},
	{"istiod restarted", "", (*world).restarted},
	{"istiod away", "", (*world).away},
}

// TestRecorded: what was recorded of istiod is asserted by calls.
func TestRecorded(t *testing.T) {
	files, err := filepath.Glob("../../../l7proxy/xds/testdata/istiod/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatalf("nothing is recorded: %v", err)
	}
	var asserted []string
	for _, s := range scenarios {
		asserted = append(asserted, strings.Fields(s.recorded)...)
	}
	for _, file := range files {
		name, _, _ := strings.Cut(filepath.Base(file), ".")
		if !slices.Contains(asserted, name) {
			t.Errorf("no scenario is for what was recorded as %s", name)
		}
	}
}

// TestIstiod applies each scenario to a real control plane and makes calls by it. Before
// the next one its objects are deleted.
func TestIstiod(t *testing.T) {
	w := begin(t)
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			whole := w.T
			defer func() { w.T = whole }()
			w.T = t
			defer w.emptied()
			defer w.accepted()
			s.run(w)
		})
	}
}

// with applies the objects of a file until the returned function is called.
func (w *world) with(file string, changes ...string) (without func()) {
	w.T.Helper()
	text := w.objects(file, changes...)
	w.apply(text)
	return func() {
		w.T.Helper()
		w.Must(w.plane.API.Delete(w.Ctx, text))
	}
}

// dubboPort: the whole of VirtualService.http holds for a port that is named dubbo.
func (w *world) dubboPort() {
	const vip = "198.19.0.20"
	defer w.with("dubbo-port", "${FIRST}", "80", "${SECOND}", "20")()
	w.settled("by method", at(vip, "sayHello"), map[string]int{"v2": 20})
	jason := at(vip, "buy", "user", "jason")
	w.settled("by attachment, of consumers with a label", jason, map[string]int{"v2": 20})
	jason.Batch = true
	w.shared(300, jason, 25, 95)          // as every other call
	w.shared(300, at(vip, "buy"), 25, 95) // 5 standard deviations
	w.settled("after its time", at(vip, "delay5000"), map[string]int{"status 31": 2})
	w.Counted("istio_requests_total{", 4, `reporter="source"`, `response_flags="UT"`, `source_workload="consumer"`)
	w.settled("a fault", at(vip, "forbidden"), map[string]int{"status 100": 2})
	w.Counted("istio_requests_total{", 4, `reporter="source"`, `response_flags="FI"`, `request_protocol="dubbo"`)
}

// weights: a change of weights is in effect soon, and costs no call.
func (w *world) weights() {
	const vip = "198.19.0.20"
	defer w.with("dubbo-port", "${FIRST}", "100", "${SECOND}", "0")()
	w.effect(at(vip, "buy"), func() {
		w.apply(w.objects("dubbo-port", "${FIRST}", "0", "${SECOND}", "100"))
	})
	w.settled("after the change", at(vip, "buy"), map[string]int{"v2": 20})
}

// endpoints: a pod that is not ready gets no calls.
func (w *world) endpoints() {
	const vip = "198.19.0.30"
	defer w.with("endpoints")()
	w.both(at(vip, "buy"))
	w.plane.Ready(w.v2, false)
	w.settled("without v2", at(vip, "buy"), map[string]int{"v1": 20})
	w.plane.Ready(w.v2, true)
	w.both(at(vip, "buy"))
	w.plane.Withdraw(w.v2)
	w.settled("v2 is deleted", at(vip, "buy"), map[string]int{"v1": 20})
	w.plane.Publish(w.v2, "n1")
	w.both(at(vip, "buy"))
	w.plane.Terminate(w.v2)
	w.settled("v2 is about to end", at(vip, "buy"), map[string]int{"v1": 20})
	w.plane.Withdraw(w.v2)
	w.plane.Publish(w.v2, "n1")
	w.both(at(vip, "buy"))
}

// tcpPort: rules for HTTP do not hold for a port that is declared as TCP; its connections
// are shared out.
func (w *world) tcpPort() {
	defer w.with("tcp-port")()
	w.both(at("198.19.0.21", "buy"))
	w.Eventually("connections are counted", func() bool {
		return w.Sum("istio_tcp_connections_opened_total{", `destination_service_name="provider-tcp"`, `reporter="source"`) >= 2
	})
}

// tcpWeights: a VirtualService's rules for TCP do.
func (w *world) tcpWeights() {
	defer w.with("tcp-weights")()
	w.settled("TCP rules", at("198.19.0.22", "buy"), map[string]int{"v2": 20})
}

// headless: consumers that dial pods by their addresses keep their choice, and have the
// policies of the host that the pods belong to.
func (w *world) headless() {
	defer w.with("headless")()
	for name, pod := range map[string]string{"v1": w.v1.Addresses[0].String(), "v2": w.v2.Addresses[0].String()} {
		w.settled("a fault", at(pod, "forbidden"), map[string]int{"status 100": 2})
		w.settled("the one that was dialled", at(pod, "buy"), map[string]int{name: 20})
		w.settled("after its time", at(pod, "delay5000"), map[string]int{"status 31": 1})
	}
}

// serviceEntry: interfaces without an address get one each from istiod, and share no
// listener although they share a port.
func (w *world) serviceEntry() {
	defer w.with("service-entry")()
	orders, stock := w.allocated("orders"), w.allocated("stock")
	if orders == stock {
		w.T.Fatalf("both have the address %s", orders)
	}
	w.settled("by method", at(orders, "findOrder"), map[string]int{"v2": 20})
	w.settled("else", at(orders, "buy"), map[string]int{"v1": 20})
	w.settled("the other one", at(stock, "buy"), map[string]int{"v2": 20})
}

// allocated waits for the address that istiod gives to a ServiceEntry.
func (w *world) allocated(name string) (address string) {
	w.T.Helper()
	w.Eventually("an address of "+name, func() bool {
		var entry struct {
			Status struct {
				Addresses []struct {
					Value string `json:"value"`
				} `json:"addresses"`
			} `json:"status"`
		}
		w.Must(w.plane.API.Get(w.Ctx, fmt.Sprintf(
			"{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: %s, namespace: shop}}", name), &entry))
		for _, one := range entry.Status.Addresses {
			if address == "" {
				address = one.Value // IPv4 comes first
			}
		}
		return address != ""
	})
	return address
}

// httpWay: a port that is declared as HTTP carries Dubbo nevertheless.
func (w *world) httpWay() {
	const vip = "240.241.0.1"
	defer w.with("http-way")()
	w.settled("by two headers", at(vip, "sayHello"), map[string]int{"v2": 20})
	w.settled("or two others", at(vip, "sayHi", "group", "blue"), map[string]int{"v2": 20})
	w.settled("not by one of them", at(vip, "sayHi", "group", "green"), map[string]int{"v1": 20})
	w.settled("by expression", at(vip, "findOrder"), map[string]int{"v2": 20})
	w.settled("unless", at(vip, "findOrder", "x-canary", "true"), map[string]int{"v1": 20})
	w.settled("refused at once", at(vip, "forbidden"), map[string]int{"status 40": 2})
	w.settled("rules of other namespaces are not ours", at(vip, "buy"), map[string]int{"v1": 20})

	var got map[string]string
	said := w.calls(1, at(vip, "attached", "token", "secret", "kept", "yes")).Said
	w.Must(json.Unmarshal([]byte(said), &got))
	if got["dubbo.tag"] != "gray" || got["token"] != "" || got["kept"] != "yes" {
		w.T.Errorf("the provider saw %v, want dubbo.tag, kept and no token", got)
	}
}

// consistentHash: calls of one user have one provider, those of many have both.
func (w *world) consistentHash() {
	const vip = "198.19.0.23"
	defer w.with("consistent-hash")()
	seen := map[string]int{}
	for i := range 30 {
		user := at(vip, "buy", "user-id", fmt.Sprint("user", i))
		if i == 0 {
			w.Eventually("one provider for one user", func() bool { return len(w.calls(20, user).By) == 1 && w.calls(1, user).By["connect"] == 0 })
		}
		r := w.calls(10, user)
		if len(r.By) != 1 || r.By["v1"]+r.By["v2"] != 10 {
			w.T.Errorf("user %d: %v %q", i, r.By, r.Errors)
		}
		for name := range r.By {
			seen[name]++
		}
	}
	if seen["v1"] == 0 || seen["v2"] == 0 {
		w.T.Errorf("of 30 users: %v", seen)
	}
	first := w.calls(10, at(vip, "byAddress"))
	for range 5 {
		if r := w.calls(10, at(vip, "byAddress")); len(r.By) != 1 || fmt.Sprint(r.By) != fmt.Sprint(first.By) {
			w.T.Errorf("by address: %v, at first %v %q", r.By, first.By, r.Errors)
		}
	}
	// No call has what it asks for.
	if r := w.calls(20, at(vip, "byQuery")); r.By["v1"]+r.By["v2"] != 20 {
		w.T.Errorf("by query: %v %q", r.By, r.Errors)
	}
}

// dubboProxy: Envoy's own filter, put there by an EnvoyFilter.
func (w *world) dubboProxy() {
	const vip = "240.241.0.2"
	defer w.with("dubbo-proxy")()
	w.settled("by method and attachment", at(vip, "sayHello", "user", "jason"), map[string]int{"v1": 20})
	w.settled("not by the method alone", at(vip, "sayHello"), map[string]int{"v2": 20})
	w.shared(300, at(vip, "getOrder"), 4, 60)
}

// gatewayAPI: an HTTPRoute by a header, a GRPCRoute by interface and method.
func (w *world) gatewayAPI() {
	defer w.with("gateway-api")()
	w.settled("HTTPRoute", at("198.19.0.24", "sayHello"), map[string]int{"v2": 20})
	w.settled("HTTPRoute, else", at("198.19.0.24", "buy"), map[string]int{"v1": 20})
	w.settled("GRPCRoute", at("198.19.0.25", "sayHello"), map[string]int{"v1": 20})
	w.settled("GRPCRoute, else", at("198.19.0.25", "buy"), map[string]int{"v2": 20})
}

// sidecar: what a Sidecar cuts from the view of a workload is not steered any more.
func (w *world) sidecar() {
	const kept, cut = "198.19.0.26", "198.19.0.27"
	defer w.with("sidecar-services")()
	w.settled("before", at(cut, "buy"), map[string]int{"v1": 10})
	without := w.with("sidecar")
	w.settled("cut", at(cut, "buy"), map[string]int{"connect": 1})
	w.settled("kept", at(kept, "buy"), map[string]int{"v1": 10})
	other := at(cut, "buy")
	other.Batch = true
	w.settled("not of other workloads", other, map[string]int{"v1": 10})
	without()
	w.settled("after", at(cut, "buy"), map[string]int{"v1": 10})
}

// authorization: policies of the provider hold for calls, by what the call says.
func (w *world) authorization() {
	const vip = "198.19.0.28"
	defer w.with("authorization")()
	w.settled("denied", at(vip, "dangerous"), map[string]int{"thrown": 2})
	w.settled("denied by the begin of a name", at(vip, "dropTable"), map[string]int{"thrown": 2})
	w.settled("denied by the consumer's address", at(vip, "notFromThere"), map[string]int{"thrown": 2})
	w.settled("not denied", at(vip, "buy"), map[string]int{"v1": 20})
	w.Counted("dubway_rbac_total{", 12, `result="denied"`)
	w.settled("nor where nobody guards", at(w.v1.Addresses[0].String(), "buy"), map[string]int{"v1": 20})
}

// authorizationTCP: policies of the provider for connections hold for the calls on them,
// which are refused with an answer.
func (w *world) authorizationTCP() {
	const vip = "198.19.0.31"
	defer w.with("authorization-tcp")()
	other := at(vip, "buy")
	other.Batch = true
	w.settled("another address", other, map[string]int{"v1": 20})
	w.settled("the address", at(vip, "buy"), map[string]int{"thrown": 2})
}

// principals: of a policy that allows, who calls is known by the account of its pod, as the
// node vouches for it.
func (w *world) principals() {
	const vip = "198.19.0.29"
	defer w.with("principals")()
	stranger := at(vip, "sayHello")
	stranger.Batch = true
	w.settled("another account", stranger, map[string]int{"thrown": 2})
	w.settled("the account", at(vip, "sayHello"), map[string]int{"v1": 20})
	w.settled("the account, by the begin of a name", at(vip, "getOrder"), map[string]int{"v1": 20})
	w.settled("the account, another method", at(vip, "buy"), map[string]int{"thrown": 2})
}
