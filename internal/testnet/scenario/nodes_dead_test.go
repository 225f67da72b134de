package scenario

import (
	"net/netip"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
)

// TestDeadProviderOverTwoNodes: a provider's process dies, its pod stays: calls go to
// the other provider, as they do when all are on one node.
func TestDeadProviderOverTwoNodes(t *testing.T) {
	near, far := newMesh(t), newNode(t, "sc2", 2)
	near.must(testnet.Link(near.Node, far.Node))
	consumer := near.pod("consumer")
	v1, v2 := far.pod("provider-1", 20880), far.pod("provider-2", 20880)
	first := far.provider(v1, "v1")
	far.provider(v2, "v2")
	service := routed{
		addresses: []string{vip4}, routes: split(map[string]int{"echo": 1}),
		clusters: map[string][]netip.AddrPort{"echo": {v1.Addr(20880), v2.Addr(20880)}},
	}
	near.put(service)
	far.put(service)
	near.start(consumer)
	far.start(v1, v2)
	ask := callsOf{Target: vip4 + ":20880", N: 20, Timeout: 30 * time.Second}
	near.calls(consumer, ask)
	near.must(first.Kill())
	near.eventually("all calls go to the other one", func() bool { return near.calls(consumer, ask).Answers["v2"] == 20 })
}
