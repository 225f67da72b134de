//go:build e2e

package istiod_test

import (
	"strings"
)

// peers: who is let in by each mode of a PeerAuthentication, of a workload and of its port.
// The node's own pods always are: the kernel vouches for them.
func (w *world) peers() {
	const vip = "198.19.0.54"
	outside := at(w.v1.Addresses[0].String(), "buy").ofStranger()
	passes, closed := map[string]int{"v1": 10}, map[string]int{"error": 1}
	defer w.with("security")()
	w.settled("without a policy", outside, passes)
	first := []string{"${MODE}", "STRICT", "${PORT}", "UNSET"}
	defer w.with("peer-authentication", first...)()
	w.settled("STRICT, from outside", outside, closed)
	for _, c := range []struct {
		mode, port string
		outside    map[string]int
	}{
		{"PERMISSIVE", "UNSET", passes},
		{"PERMISSIVE", "STRICT", closed},
		{"STRICT", "PERMISSIVE", passes},
		{"STRICT", "UNSET", closed},
		{"STRICT", "DISABLE", passes},
		{"DISABLE", "STRICT", closed},
		{"DISABLE", "UNSET", passes},
	} {
		what, before := c.mode+", port "+c.port, w.plaintext()
		w.apply(w.objects("peer-authentication", "${MODE}", c.mode, "${PORT}", c.port))
		w.settled(what+", from outside", outside, c.outside)
		if closes := c.outside["error"] > 0; closes {
			w.Eventually("it is counted", func() bool { return w.plaintext() >= before+2 })
		}
		vouched := w.vouched()
		w.both(at(vip, "buy"))
		w.Eventually("the kernel vouches", func() bool { return w.vouched() >= vouched+150 })
	}
}

// plaintext counts the connections that were closed because they were not in TLS.
func (w *world) plaintext() int {
	w.T.Helper()
	return w.Sum("dubway_tls_refused_total{", `side="server"`, `reason="plaintext"`)
}

// vouched counts the calls within the node whose ends the kernel knows.
func (w *world) vouched() int {
	w.T.Helper()
	return w.Sum("istio_requests_total{", `destination_service_name="provider-secure"`, `reporter="destination"`,
		`connection_security_policy="node_local"`, `source_principal="spiffe://cluster.local/ns/shop/sa/consumer"`)
}

// mutual: with certificates of istiod's, calls to a provider that is said to speak TLS and is
// STRICT are encrypted, within the node too. Plaintext from outside is closed.
func (w *world) mutual(granted func()) {
	const vip = "198.19.0.54"
	w.T.Helper()
	p, err := w.AddPod("provider", map[string]string{"app": "provider", "security.istio.io/tlsMode": "istio"}, 20880)
	w.Must(err)
	w.stranger, err = w.AddPod("stranger", nil)
	w.Must(err)
	w.Must(p.Enroll())
	_, err = p.StartHelper("provider", "v1")
	w.Must(err)
	w.Eventually("the provider listens", func() bool { return p.Listens(20880) })
	w.plane.Publish(p, "n1")
	granted()
	w.with("security")
	w.settled("PERMISSIVE", at(vip, "buy"), map[string]int{"v1": 10})
	w.with("peer-authentication", "${MODE}", "STRICT", "${PORT}", "UNSET")
	w.settled("STRICT, from outside", at(p.Addresses[0].String(), "buy").ofStranger(), map[string]int{"error": 1})
	encrypted := func(reporter string) int {
		return w.Sum("istio_requests_total{", `destination_workload="provider"`, `reporter="`+reporter+`"`,
			`connection_security_policy="mutual_tls"`, `source_principal="spiffe://cluster.local/ns/shop/sa/consumer"`,
			`destination_principal="spiffe://cluster.local/ns/shop/sa/provider"`)
	}
	source, destination := encrypted("source"), encrypted("destination")
	w.settled("STRICT", at(vip, "buy"), map[string]int{"v1": 10})
	w.Eventually("both sides have proven who they are", func() bool {
		return encrypted("source") >= source+20 && encrypted("destination") >= destination+20
	})
	if n := w.Sum("istio_requests_total{", `destination_service_name="unknown"`, `reporter="destination"`, `connection_security_policy="mutual_tls"`); n > 0 {
		w.T.Errorf("the provider's side names no service of %d calls", n)
	}
}

// tlsMode: an endpoint that is said to speak the mesh's TLS, called by who has no certificate:
// within the node there is no need of one, unless the provider is STRICT. Then nothing is sent
// in plaintext, until a DestinationRule says so.
func (w *world) tlsMode() {
	const vip = "240.241.0.11"
	defer w.with("tls-mode")()
	w.settled("PERMISSIVE", at(vip, "buy"), map[string]int{"v1": 10})
	defer w.with("peer-authentication", "${MODE}", "STRICT", "${PORT}", "UNSET")()
	w.settled("STRICT", at(vip, "buy"), map[string]int{"status 80": 2})
	if r := w.calls(1, at(vip, "buy")); !strings.Contains(strings.Join(r.Errors, " "), "the workload has no certificate for mutual TLS") {
		w.T.Errorf("without a certificate: %v %q", r.By, r.Errors)
	}
	without := w.with("tls-disable")
	w.settled("STRICT, in plaintext within the node", at(vip, "buy"), map[string]int{"v1": 10})
	without()
	w.settled("STRICT, again", at(vip, "buy"), map[string]int{"status 80": 2})
}

// foreignTLS: TLS by other certificates than the mesh's is refused by name, its calls are not
// sent in plaintext, and everything else goes on.
func (w *world) foreignTLS() {
	const vip = "240.241.0.12"
	defer w.with("http-way-tls")()
	w.refuses("only default and ROOTCA")
	w.settled("the subset without", at(vip, "buy"), map[string]int{"v1": 10})
	w.settled("the subset by files", at(vip, "sayHello"), map[string]int{"thrown": 2})
	w.settled("else", at(vip, "list"), map[string]int{"thrown": 2})
}
