//go:build e2e

package istiod_test

import (
	"encoding/json"
)

// ports: a port that is named dubbo, or said to be so, has requests; one of TCP has
// connections.
func (w *world) ports() {
	defer w.with("ports")()
	sum := func(metric, service string) int {
		return w.Sum(metric+"{", `destination_service_name="`+service+`"`, `reporter="source"`)
	}
	const requests, connections = "istio_requests_total", "istio_tcp_connections_opened_total"
	for address, name := range map[string]string{"198.19.0.40": "provider-named", "198.19.0.42": "provider-app"} {
		w.settled(name, at(address, "buy"), map[string]int{"v1": 10})
		w.Eventually("requests are counted", func() bool { return sum(requests, name) >= 20 })
		if n := sum(connections, name); n > 0 {
			w.T.Errorf("%s has %d connections", name, n)
		}
	}
	for address, name := range map[string]string{"198.19.0.41": "provider-named-tcp", "198.19.0.43": "provider-app-tcp"} {
		w.settled(name, at(address, "buy"), map[string]int{"v1": 10})
		w.Eventually("connections are counted", func() bool { return sum(connections, name) >= 2 })
		if n := sum(requests, name); n > 0 {
			w.T.Errorf("%s has %d requests", name, n)
		}
	}
}

// headlessTCP: connections to pods of a headless service go to the pod that was dialled, and
// are the service's.
func (w *world) headlessTCP() {
	defer w.with("headless-tcp")()
	w.settled("the first pod", at(w.v1.Addresses[0].String(), "buy"), map[string]int{"v1": 10})
	w.settled("the second pod", at(w.v2.Addresses[0].String(), "buy"), map[string]int{"v2": 10})
	w.Eventually("connections are counted", func() bool {
		for _, pod := range []string{"provider-v1", "provider-v2"} {
			w.calls(1, at(w.v1.Addresses[0].String(), "buy"))
			w.calls(1, at(w.v2.Addresses[0].String(), "buy"))
			if w.Sum("istio_tcp_connections_opened_total{", `destination_service_name="provider-headless-tcp"`,
				`destination_workload="`+pod+`"`, `reporter="source"`) == 0 {
				return false
			}
		}
		return true
	})
}

// httpPorts: rules by port and path, as for Triple, hold for Dubbo on the same port.
func (w *world) httpPorts() {
	const vip = "198.19.0.44"
	defer w.with("http-ports")()
	w.settled("by path and attachment", at(vip, "sayHello", "tri-service-group", "blue").on(50051), map[string]int{"v2": 20})
	w.shared(300, at(vip, "sayHello").on(50051), 4, 60)
	w.shared(300, at(vip, "buy").on(50051), 4, 60)
	for _, port := range []uint16{8080, 8082, 8083} {
		w.both(at(vip, "sayHello", "tri-service-group", "blue").on(port))
	}
}

// entryPolicies: mirrors, retries, shares and attachments of a host that is none of
// Kubernetes', and a host with capitals.
func (w *world) entryPolicies() {
	const vip, capitals, ruled = "240.241.0.4", "240.241.0.5", "240.241.0.9"
	defer w.with("entry-policies")()
	mirrored := w.Sum("dubway_mirrored_requests_total")
	w.settled("by method and attachment", at(vip, "sayHello", "arg.0", "jason"), map[string]int{"v2": 20})
	w.Eventually("calls are mirrored", func() bool { return w.Sum("dubway_mirrored_requests_total") >= mirrored+10 })
	w.settled("not by the method alone", at(vip, "sayHello"), map[string]int{"v1": 20})
	again := w.Sum("dubway_retries_total")
	w.settled("once more after an error", at(vip, "flaky1"), map[string]int{"v2": 10})
	if n := w.Sum("dubway_retries_total") - again; n < 20 {
		w.T.Errorf("%d retries of 20 calls that fail at first", n)
	}
	w.shared(300, at(vip, "buy"), 4, 60)
	w.settled("a host with capitals", at(capitals, "buy"), map[string]int{"v2": 10})
	w.settled("one with rules, by method", at(ruled, "sayHello"), map[string]int{"v2": 10})
	w.settled("one with rules, else", at(ruled, "buy"), map[string]int{"v1": 10})
}

// gatewayPorts: the Gateway API's routes on ports of gRPC, HTTP and TCP.
func (w *world) gatewayPorts() {
	const vip = "198.19.0.47"
	defer w.with("gateway-ports")()
	w.settled("GRPCRoute", at(vip, "sayHello", "tri-service-group", "blue").on(50051), map[string]int{"v2": 20})
	w.shared(300, at(vip, "sayHello").on(50051), 4, 60)
	mirrored := w.Sum("dubway_mirrored_requests_total")
	w.settled("HTTPRoute", at(vip, "getOrder").on(8080), map[string]int{"v2": 20})
	w.Eventually("calls are mirrored", func() bool { return w.Sum("dubway_mirrored_requests_total") >= mirrored+10 })
	w.settled("HTTPRoute, else", at(vip, "buy").on(8080), map[string]int{"v1": 20})
	var got map[string]string
	said := w.calls(1, at(vip, "attached").on(8080)).Said
	w.Must(json.Unmarshal([]byte(said), &got))
	if got["x-a"] != "b" {
		w.T.Errorf("the provider saw %v, want x-a", got)
	}
	w.settled("TCPRoute", at(vip, "buy"), map[string]int{"v2": 20})
}
