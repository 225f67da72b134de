//go:build e2e

package istiod_test

import (
	"strings"
)

// changes: what moves under calls costs none of them.
func (w *world) changes() {
	first := []string{"${ENDPOINT}", w.v1.Addresses[0].String(), "${VERSION}", "v1"}
	defer w.with("changes", first...)()
	w.effect(at("240.241.0.6", "buy"), func() {
		w.apply(w.objects("changes", "${ENDPOINT}", w.v2.Addresses[0].String(), "${VERSION}", "v1"))
	})
	w.settled("another endpoint", at("240.241.0.6", "buy"), map[string]int{"v2": 20})
	w.effect(at("240.241.0.7", "buy"), func() {
		w.apply(w.objects("changes", "${ENDPOINT}", w.v2.Addresses[0].String(), "${VERSION}", "v2"))
	})
	w.settled("another subset", at("240.241.0.7", "buy"), map[string]int{"v2": 20})
}

// failover: the own zone has the calls while it can serve them, or the share that is given to
// it.
func (w *world) failover() {
	const vip = "240.241.0.3"
	defer w.with("failover")()
	w.settled("the own zone", at(vip, "buy"), map[string]int{"v1": 20})
	w.shared(300, at(vip, "share"), 25, 95)
	w.settled("the other zone, when the own one fails", at(vip, "errorv1"), map[string]int{"v2": 20})
	w.settled("whatever is called", at(vip, "buy"), map[string]int{"v2": 20})
	w.Eventually("it is counted", func() bool { return w.Sum("dubway_outlier_ejections_total{") > 0 })
}

// sidecarBinds: a listener on a pod's loopback is refused by name, and everything else goes
// on.
func (w *world) sidecarBinds() {
	const kept, cut = "198.19.0.26", "198.19.0.27"
	defer w.with("sidecar-services")()
	w.settled("before", at(cut, "buy").ofBatch(), map[string]int{"v1": 10})
	without := w.with("sidecar-bind")
	w.refuses("127.0.0.1 is never steered")
	w.settled("cut", at(cut, "buy").ofBatch(), map[string]int{"connect": 1})
	w.settled("kept", at(kept, "buy").ofBatch(), map[string]int{"v1": 10})
	w.settled("of other workloads", at(cut, "buy"), map[string]int{"v1": 10})
	without()
	w.settled("after", at(cut, "buy").ofBatch(), map[string]int{"v1": 10})
}

// registryOnly: a connect to what istiod does not know is refused at once, and counted.
func (w *world) registryOnly() {
	const vip = "198.19.0.50"
	unknown := at(w.v1.Addresses[0].String(), "buy")
	defer w.with("registry-only-service")()
	w.settled("what istiod knows, before", at(vip, "buy"), map[string]int{"v1": 10})
	w.settled("what it does not, before", unknown, map[string]int{"v1": 10})
	without := w.with("registry-only")
	w.settled("what istiod does not know", unknown, map[string]int{"connect": 1})
	counted := func() int { return w.Sum("dubway_datapath_outcomes_total{", `outcome="unknown_refused"`) }
	w.settled("what istiod knows", at(vip, "buy"), map[string]int{"v1": 10})
	before := counted()
	if r := w.calls(1, unknown); !strings.Contains(strings.Join(r.Errors, " "), "connection refused") {
		w.T.Errorf("an unknown destination: %v %q", r.By, r.Errors)
	}
	w.settled("of every workload", unknown.ofBatch(), map[string]int{"connect": 1})
	w.Eventually("it is counted", func() bool { return counted() >= before+3 })
	without()
	w.settled("after", unknown, map[string]int{"v1": 10})
	w.settled("what istiod knows, after", at(vip, "buy"), map[string]int{"v1": 10})
}

// access: all kinds of policies of one provider together.
func (w *world) access() {
	const vip = "198.19.0.48"
	defer w.with("access")()
	w.settled("nobody's", at(vip, "buy"), map[string]int{"thrown": 2})
	w.settled("the principal's", at(vip, "sayHello"), map[string]int{"v1": 20})
	w.settled("not another's", at(vip, "sayHello").ofBatch(), map[string]int{"thrown": 2})
	w.settled("the account's", at(vip, "list").ofBatch(), map[string]int{"v1": 20})
	w.settled("not another account's", at(vip, "list"), map[string]int{"thrown": 2})
	w.settled("denied although allowed", at(vip, "dangerous"), map[string]int{"thrown": 2})
	w.Eventually("a dry run denies nothing, and counts", func() bool {
		return w.Sum("dubway_rbac_total{", `mode="shadow"`, `result="denied"`) >= 40
	})
	w.Eventually("an audit is counted", func() bool { return w.Sum("dubway_rbac_total{", `result="logged"`) >= 40 })
}

// accessTCP: what istiod makes of policies for calls on a port of TCP: a DENY denies
// everything, an ALLOW allows nothing. Those for connections hold.
func (w *world) accessTCP() {
	const denied, allowed = "198.19.0.49", "198.19.0.53"
	without := w.with("access-tcp")
	w.settled("everything", at(denied, "buy"), map[string]int{"thrown": 2})
	w.settled("of everybody", at(denied, "dangerous").ofBatch(), map[string]int{"thrown": 2})
	without()
	defer w.with("access-tcp-allow")()
	w.settled("the account's", at(allowed, "buy"), map[string]int{"v1": 20})
	w.settled("another account's", at(allowed, "buy").ofBatch(), map[string]int{"thrown": 2})
}
