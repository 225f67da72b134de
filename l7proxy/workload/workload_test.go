package workload_test

import (
	"net/netip"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/workload"
)

var (
	four = netip.MustParseAddr("10.0.0.1")
	six  = netip.MustParseAddr("fd00::1")
)

func TestPeer(t *testing.T) {
	tests := []struct {
		name   string
		pod    string
		labels map[string]string
		want   rpc.Peer
	}{
		{"no labels", "provider-0", nil, rpc.Peer{Workload: "provider-0"}},
		{
			"a Deployment's pod", "provider-7d4b9c-x2x4z", map[string]string{"pod-template-hash": "7d4b9c", "app": "p", "version": "v1"},
			rpc.Peer{Workload: "provider", App: "p", Version: "v1"},
		},
		{
			"a hash that is not in the name", "provider-0", map[string]string{"pod-template-hash": "7d4b9c"},
			rpc.Peer{Workload: "provider-0"},
		},
		{
			"Istio's name before all", "provider-7d4b9c-x2x4z",
			map[string]string{"pod-template-hash": "7d4b9c", "service.istio.io/workload-name": "owner"},
			rpc.Peer{Workload: "owner"},
		},
		{
			"recommended labels before short ones", "p",
			map[string]string{"app": "a", "app.kubernetes.io/name": "b", "version": "1", "app.kubernetes.io/version": "2"},
			rpc.Peer{Workload: "p", App: "b", Version: "2"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := workload.New(handoff.Workload{
				UID: "1", Name: test.pod, Namespace: "shop", ServiceAccount: "sa", Labels: test.labels,
				Addresses: []netip.Addr{four, six},
			})
			want := test.want
			want.Pod, want.Namespace, want.ServiceAccount, want.Address = test.pod, "shop", "sa", four
			if *w.Peer != want {
				t.Errorf("peer %+v, want %+v", *w.Peer, want)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	w := workload.New(handoff.Workload{Addresses: []netip.Addr{four, six}, Ports: []uint16{20880, 20881}})
	tests := []struct {
		dst  string
		want bool
	}{
		{"10.0.0.1:20880", true},
		{"[fd00::1]:20881", true},
		{"10.0.0.1:20882", false},
		{"10.0.0.2:20880", false},
	}
	for _, test := range tests {
		if got := w.Serves(netip.MustParseAddrPort(test.dst)); got != test.want {
			t.Errorf("Serves(%s) = %v, want %v", test.dst, got, test.want)
		}
	}
	if got := w.Address(netip.MustParseAddr("192.0.2.1")); got != four {
		t.Errorf("Address for IPv4 = %v, want %v", got, four)
	}
	if got := w.Address(netip.MustParseAddr("2001:db8::1")); got != six {
		t.Errorf("Address for IPv6 = %v, want %v", got, six)
	}
	only := workload.New(handoff.Workload{Addresses: []netip.Addr{four}})
	if got := only.Address(six); got.IsValid() {
		t.Errorf("Address for IPv6 of a pod without = %v, want none", got)
	}
	if none := workload.New(handoff.Workload{Name: "p"}); none.Peer.Address.IsValid() || none.Serves(netip.MustParseAddrPort("10.0.0.1:1")) {
		t.Error("a pod without addresses has one")
	}
}

func TestRegistry(t *testing.T) {
	r := workload.NewRegistry()
	put := func(uid string, addresses ...netip.Addr) *workload.Workload {
		w := workload.New(handoff.Workload{UID: uid, Addresses: addresses})
		r.Put(w)
		return w
	}
	check := func(what string, uids ...string) {
		t.Helper()
		all := r.All()
		if len(all) != len(uids) {
			t.Fatalf("%s: %d workloads, want %d", what, len(all), len(uids))
		}
		for i, w := range all {
			if w.UID != uids[i] || r.ByUID(w.UID) != w {
				t.Errorf("%s: workload %d is %s, want %s", what, i, w.UID, uids[i])
			}
		}
	}
	check("at first")
	put("b", four)
	a := put("a", six)
	check("two pods", "a", "b")
	b := put("b", netip.MustParseAddr("10.0.0.9"))
	check("replaced", "a", "b")
	if r.ByAddress(four) != nil {
		t.Error("a replaced pod still has its old address")
	}
	if r.ByAddress(b.Addresses[0]) != b || r.ByAddress(six) != a {
		t.Error("a pod is not found by its address")
	}
	r.Remove("b")
	r.Remove("never there")
	check("removed", "a")
	if r.ByUID("b") != nil || r.ByAddress(b.Addresses[0]) != nil {
		t.Error("a removed pod is still found")
	}
}

// TestPeerOfAddress: the agent knows best, then the endpoint's metadata.
func TestPeerOfAddress(t *testing.T) {
	r := workload.NewRegistry()
	here := netip.MustParseAddr("10.0.0.1")
	r.Put(workload.New(handoff.Workload{UID: "shop/provider", Name: "provider", Namespace: "shop", Addresses: []netip.Addr{here}}))
	info := &snapshot.Endpoint{Workload: "far", Namespace: "other", App: "orders", Revision: "v2"}
	if p := r.Peer(here, info); p.Workload != "provider" || p.Namespace != "shop" {
		t.Errorf("a pod of this node is %+v", p)
	}
	there := netip.MustParseAddr("10.0.0.2")
	if p := r.Peer(there, info); p.Workload != "far" || p.Namespace != "other" || p.App != "orders" || p.Version != "v2" || p.Address != there {
		t.Errorf("an endpoint is %+v", p)
	}
	if p := r.Peer(there, nil); p.Workload != "" || p.Address != there {
		t.Errorf("an address is %+v", p)
	}
}
