package scenario

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
)

// TestTwoNodes: consumer and provider on two nodes, each with its own mesh. The
// call takes two proxies, and each counts and logs its own side of it.
func TestTwoNodes(t *testing.T) {
	near, far := newMesh(t), newNode(t, "sc2", 2)
	near.must(testnet.Link(near.Node, far.Node))

	consumer, provider := near.pod("consumer"), far.pod("provider", 20880)
	far.provider(provider, "v1")
	service := routed{
		addresses: []string{vip4, vip6},
		routes:    split(map[string]int{"v1": 1}),
		clusters:  map[string][]netip.AddrPort{"v1": {provider.Addr(20880), provider.Addr6(20880)}},
	}
	near.put(service)
	far.put(service)
	_, sourceProxy := near.start(consumer)
	_, destinationProxy := far.start(provider)

	const calls = 200
	for _, target := range []string{vip4 + ":20880", "[" + vip6 + "]:20880"} {
		r := near.calls(consumer, callsOf{Target: target, N: calls, Timeout: 30 * time.Second})
		if r.Answers["v1"] != calls {
			t.Fatalf("%s: %v %v", target, r.Answers, r.Errors)
		}
		near.seesItself(consumer, r, target)
	}
	near.counted(`istio_requests_total{`, 2*calls, `reporter="source"`, `source_workload="consumer"`)
	near.counted(`istio_requests_total{`, 0, `reporter="destination"`)
	far.counted(`istio_requests_total{`, 2*calls, `reporter="destination"`, `destination_workload="provider"`)
	far.counted(`istio_requests_total{`, 0, `reporter="source"`)
	for side, proxy := range map[string]*testnet.Process{"source": sourceProxy, "destination": destinationProxy} {
		near.eventually("a line for each call of the "+side, func() bool {
			return strings.Count(proxy.Output(), `"reporter":"`+side+`"`) == 2*calls
		})
	}
}
