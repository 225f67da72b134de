package cluster

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/dubway/dubway/l7proxy/cluster/original"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

func TestOriginalDestination(t *testing.T) {
	s := setOf(t, &snapshot.Cluster{Name: "c", Kind: snapshot.ClusterOriginalDst})
	e := pick(t, s, Choice{Original: address(1)})
	if e.Address != address(1) || e.Info.Address != address(1) || e != pick(t, s, Choice{Original: address(1)}) {
		t.Errorf("picked %v", e.Address)
	}
	if _, err := s.Pick(Choice{}); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("pick without an address: %v", err)
	}
	all := func(netip.AddrPort) bool { return true }
	if _, err := s.Pick(Choice{Original: address(1), Exclude: all}); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("pick of an excluded address: %v", err)
	}
	e.Failed()
	if pick(t, s, Choice{Original: address(1)}) != e {
		t.Error("a failed address is not itself any more")
	}
}

// A consumer that dials ever new addresses does not make the set grow for ever,
// and what is in use is never forgotten.
func TestOriginalDestinationsAreForgotten(t *testing.T) {
	s := setOf(t, &snapshot.Cluster{Name: "c", Kind: snapshot.ClusterOriginalDst})
	busy, quiet := pick(t, s, Choice{Original: address(1)}), pick(t, s, Choice{Original: address(2)})
	busy.Begin()
	quiet.Failed()
	for i := range 20_000 {
		pick(t, s, Choice{Original: address(10 + i)})
	}
	if n := len(s.originals.All()); n > 4*original.SweepMin {
		t.Errorf("%d addresses are kept", n)
	}
	if pick(t, s, Choice{Original: address(1)}) != busy {
		t.Error("an address in use was forgotten")
	}
	if pick(t, s, Choice{Original: address(2)}) == quiet {
		t.Error("an address out of use was kept")
	}
}

// A cluster whose providers are known is balanced for those who dialled one of them, and
// for nobody else.
func TestHeadless(t *testing.T) {
	s := setOf(t, &snapshot.Cluster{
		Name: "c", Kind: snapshot.ClusterOriginalDst, Overprovision: 140,
		Localities: []*snapshot.Locality{{Weight: 1, Endpoints: []*snapshot.Endpoint{
			{Address: address(1), Weight: 1, Healthy: true}, {Address: address(2), Weight: 1},
		}}},
	})
	service := address(9)
	if e := pick(t, s, Choice{Original: service}); e.Address != service {
		t.Errorf("a service's address led to %s", e.Address)
	}
	for n := range 20 {
		if e := pick(t, s, Choice{Original: address(2), Own: true, Random: uint64(n)}); e.Address != address(1) {
			t.Errorf("an unhealthy provider's own address led to %s", e.Address)
		}
		if e := pick(t, s, Choice{Random: uint64(n)}); e.Address != address(1) {
			t.Errorf("a copy, which nobody dialled, went to %s", e.Address)
		}
	}
	if e := s.At(address(1), nil); e == nil || e.Address != address(1) {
		t.Errorf("the consumer's choice is %v", e)
	}
	if s.At(address(2), nil) != nil || s.At(service, nil) != nil {
		t.Error("what is unhealthy, or no provider, is the consumer's choice")
	}
	if !s.Others(address(1)) || s.Others(service) {
		t.Error("others: of a provider there is one, of a service's address none")
	}
}
