package scenario

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// shop is a consumer and two versions of a provider behind one service.
func shop(t *testing.T) (m *mesh, consumer, v1, v2 *testnet.Pod) {
	t.Helper()
	m = newMesh(t)
	consumer, v1, v2 = m.shop()
	return m, consumer, v1, v2
}

// shop adds the pods of a shop.
func (m *mesh) shop() (consumer, v1, v2 *testnet.Pod) {
	m.t.Helper()
	consumer, v1, v2 = m.pod("consumer"), m.pod("provider-1", 20880), m.pod("provider-2", 20880)
	m.provider(v1, "v1")
	m.provider(v2, "v2")
	return consumer, v1, v2
}

// both are the clusters of shop.
func both(v1, v2 *testnet.Pod) map[string][]netip.AddrPort {
	return map[string][]netip.AddrPort{"v1": {v1.Addr(20880)}, "v2": {v2.Addr(20880)}}
}

// TestRouteCountLog: the main job. Calls to an address that no device has are
// steered, decoded, routed by a table that changes under them, counted, logged.
func TestRouteCountLog(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4, vip6}, routes: split(map[string]int{"v1": 90, "v2": 10}), clusters: both(v1, v2)})
	_, proxy := m.start(consumer, v1, v2)

	for _, target := range []string{vip4 + ":20880", "[" + vip6 + "]:20880", "[::ffff:" + vip4 + "]:20880"} {
		r := m.calls(consumer, callsOf{Target: target, N: 300, Timeout: 30 * time.Second})
		if got := r.Answers["v1"] + r.Answers["v2"]; got != 300 {
			t.Fatalf("%s: %v %v", target, r.Answers, r.Errors)
		}
		if n := r.Answers["v2"]; n < 3 || n > 70 {
			t.Errorf("%s: %d of 300 calls went to v2, want about 30", target, n)
		}
		m.seesItself(consumer, r, target)
	}

	m.put(routed{
		addresses: []string{vip4, vip6},
		routes: `[{match: {prefix: /, headers: [{name: method, string_match: {exact: special}}]}, route: {cluster: v2}},` +
			strings.TrimPrefix(split(map[string]int{"v1": 1}), "["),
		clusters: both(v1, v2),
	})
	m.eventually("the new routes", func() bool {
		s, err := m.ProxyStatus(m.ctx)
		return err == nil && s.Generation == 2
	})
	target := vip4 + ":20880"
	if r := m.calls(consumer, callsOf{Target: target, N: 50, Timeout: 30 * time.Second}); r.Answers["v1"] != 50 {
		t.Errorf("after the change: %v %v", r.Answers, r.Errors)
	}
	special := dubbotest.Request{Method: "special"}
	if r := m.calls(consumer, callsOf{Target: target, N: 50, Timeout: 30 * time.Second, Request: special}); r.Answers["v2"] != 50 {
		t.Errorf("by method: %v %v", r.Answers, r.Errors)
	}
	m.counted(`istio_requests_total{`, 2*1000, `request_protocol="dubbo"`, `source_workload="consumer"`)
	m.counted(`istio_requests_total{`, 1000, `reporter="source"`, `dubbo_interface="`+dubbotest.DefaultInterface+`"`)
	m.eventually("a thousand log lines", func() bool {
		return strings.Count(proxy.Output(), `"dubbo_method"`) == 1000
	})
}

// seesItself checks what both applications are told of the connection.
func (m *mesh) seesItself(p *testnet.Pod, r callsResult, target string) {
	m.t.Helper()
	local := netip.MustParseAddrPort(r.Local).Addr().Unmap()
	if local != p.Addresses[0] && local != p.Addresses[1] {
		m.t.Errorf("%s: the consumer sees its own address as %s, want one of %v", target, local, p.Addresses)
	}
	want := netip.MustParseAddrPort(target)
	if remote := netip.MustParseAddrPort(r.Remote); remote.Addr().Unmap() != want.Addr().Unmap() || remote.Port() != want.Port() {
		m.t.Errorf("%s: the consumer sees its peer as %s", target, r.Remote)
	}
	peer := netip.MustParseAddrPort(r.Peer).Addr().Unmap()
	if peer != p.Addresses[0] && peer != p.Addresses[1] {
		m.t.Errorf("%s: the provider sees its consumer as %s, want one of %v", target, r.Peer, p.Addresses)
	}
}
