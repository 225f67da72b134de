//go:build e2e

package cluster_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/testnet/cluster"
)

// onlyMesh is an address that exists in the mesh alone: the nodes have no route to it, so
// whoever is answered there was steered.
const onlyMesh = "240.0.208.90:20880"

// TestMesh: installed by the chart, the mesh takes pods that are there and pods that come,
// and no call goes past it.
func TestMesh(t *testing.T) {
	w := begin(t, "shop", system)
	w.step("images imported", func() {
		w.peers()
		w.imported()
	})
	w.step("pods run before the mesh", func() {
		for _, n := range w.Nodes {
			w.provider(n.Name)
		}
		w.consumer("before", "n1", onlyMesh)
		w.pods("shop", "", cluster.Ready(3))
	})
	w.step("chart installed", func() {
		w.routes(onlyMesh, "n1", "n2")
		w.install("xds.existingConfigMap=" + configMap)
		w.bounded()
	})
	if n := w.count("shop", "before", "answered"); n > 0 {
		t.Errorf("%d calls were answered before the namespace was part of the mesh", n)
	}
	w.step("namespace labelled, its pods enrolled", func() {
		w.kubectl("label", "namespace", "shop", "dubway.io/mesh=enabled")
		w.enrolled("shop", "", 3)
		w.joined("shop")
	})
	w.step("calls of a pod from before", func() { w.reached("shop", "before", 100) })
	w.step("calls of a pod from after", func() {
		w.run(peer{image: peerImage, namespace: "shop", name: "after", node: "n2", args: []string{"load", "target=" + onlyMesh}})
		w.enrolled("shop", "app=after", 1)
		w.reached("shop", "after", 100)
	})
	w.step("calls counted", func() { w.exact("shop", "before", "after") })
	w.step("rule changed, and followed", func() {
		w.consumer("ruled", "n1", onlyMesh)
		w.calling("ruled")
		w.routes(onlyMesh, "n2")
		w.brought()
		w.follows("ruled", "n1")
		w.routes(onlyMesh, "n1")
		w.brought()
		w.follows("ruled", "n2")
		w.exact("shop", "before", "after", "ruled")
	})
	w.step("helm test, kubectl dubway and dubwayctl", w.operators)
	for _, consumer := range []string{"before", "after"} {
		for _, provider := range []string{"n1", "n2"} {
			if w.count("shop", consumer, "answered-"+provider) == 0 {
				t.Errorf("%s never reached the provider of %s", consumer, provider)
			}
		}
	}
}

// follows waits until ten calls of a consumer have been answered, and none by a provider.
func (w *world) follows(consumer, unlike string) {
	w.Helper()
	w.until(consumer+" to call "+unlike+" no more", func() bool {
		before, all := w.count("shop", consumer, "answered-"+unlike), w.count("shop", consumer, "answered")
		w.reached("shop", consumer, all+10)
		return w.count("shop", consumer, "answered-"+unlike) == before
	})
}

// exact stops consumers: each call that was answered was served once, and recorded once on
// the consumers' side. On the providers' side those are recorded that the same proxy serves:
// files give providers no inbound listener, without which calls of other nodes do not stop
// there. Providers are called as their nodes are.
func (w *world) exact(namespace string, consumers ...string) {
	w.Helper()
	answered, near := w.tally(namespace, consumers...), 0
	for _, consumer := range consumers {
		near += w.count(namespace, consumer, "answered-"+w.pods(namespace, "app="+consumer, cluster.Ready(1))[0].Node)
	}
	if sent, got := w.recorded(namespace, "source"), w.recorded(namespace, "destination"); sent != answered || got != near {
		w.Errorf("%d calls were answered, %d of them from the same node; the proxies recorded %d at the consumers' side and %d at the providers'",
			answered, near, sent, got)
	}
}

// routes has the mesh call the providers of these nodes, in turn, for an address.
func (w *world) routes(address string, nodes ...string) {
	w.Helper()
	host, _, err := net.SplitHostPort(address)
	w.must(err)
	var endpoints strings.Builder
	for _, node := range nodes {
		pod := w.pods("shop", "app=provider-"+node, cluster.Ready(1))[0]
		fmt.Fprintf(&endpoints, "          - endpoint: {address: {socket_address: {address: %q, port_value: 20880}}}\n", pod.Addresses[0])
	}
	w.apply(routes, system, configMap, host, endpoints.String())
}

const routes = `
apiVersion: v1
kind: ConfigMap
metadata: {namespace: %s, name: %s}
data:
  shop.yaml: |
    resources:
    - "@type": type.googleapis.com/envoy.config.listener.v3.Listener
      name: shop
      address: {socket_address: {address: %s, port_value: 20880}}
      filter_chains:
      - filter_chain_match: {transport_protocol: raw_buffer, application_protocols: [http/1.1, h2c]}
        filters:
        - name: envoy.filters.network.http_connection_manager
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
            stat_prefix: shop
            rds: {route_config_name: shop}
      default_filter_chain:
        filters:
        - name: envoy.filters.network.tcp_proxy
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
            stat_prefix: shop
            cluster: shop
    - "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
      name: shop
      virtual_hosts:
      - name: shop
        domains: ["*"]
        routes:
        - {name: all, match: {prefix: /}, route: {cluster: shop}}
    - "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
      name: shop
      type: STATIC
      load_assignment:
        cluster_name: shop
        endpoints:
        - lb_endpoints:
%s
  dubway-test.yaml: |
    resources:
    - "@type": type.googleapis.com/envoy.config.listener.v3.Listener
      name: dubway-test
      address: {socket_address: {address: 240.0.208.80, port_value: 20880}}
      filter_chains:
      - filters:
        - name: envoy.filters.network.tcp_proxy
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
            stat_prefix: dubway-test
            cluster: dubway-test
    - "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
      name: dubway-test
      type: STATIC
      load_assignment:
        cluster_name: dubway-test
        endpoints:
        - lb_endpoints:
          - endpoint: {address: {socket_address: {address: 198.19.7.10, port_value: 20880}}}
`
