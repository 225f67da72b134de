package cluster

import (
	"log/slog"
	"net/netip"
	"testing"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestSeveralSnapshots: what snapshots share has one Set; clusters of one name that differ
// have one each, which know the same of an address; one that replaces another takes over
// its Set; and until it is in use, both are found.
func TestSeveralSnapshots(t *testing.T) {
	m := NewManager(slog.New(slog.DiscardHandler), Options{})
	defer m.Close()
	addr := netip.MustParseAddrPort("192.0.2.1:20880")
	of := func(clusters ...*snapshot.Cluster) *snapshot.Snapshot {
		s := &snapshot.Snapshot{Clusters: make(map[string]*snapshot.Cluster)}
		for _, c := range clusters {
			s.Clusters[c.Name] = c
		}
		return s.Seal()
	}
	made := func(name string) *snapshot.Cluster {
		return &snapshot.Cluster{
			Name: name, Overprovision: 140, PanicThreshold: 50,
			Localities: []*snapshot.Locality{{Weight: 1, Endpoints: []*snapshot.Endpoint{{Address: addr, Weight: 1, Healthy: true}}}},
		}
	}
	shared, mine, theirs := made("shared"), made("own"), made("own")
	m.Update(of(shared, mine), of(shared, theirs))
	if m.Of(shared) == nil || m.Of(mine) == nil || m.Of(mine) == m.Of(theirs) || m.Of(nil) != nil || len(m.Status()) != 3 {
		t.Fatalf("sets %p %p %p, %d in all", m.Of(shared), m.Of(mine), m.Of(theirs), len(m.Status()))
	}
	a, b := m.Of(mine).At(addr, nil), m.Of(theirs).At(addr, nil)
	a.Begin()
	if b.Active() != 1 {
		t.Error("what is known of an address is not known to the other cluster of the name")
	}

	set := m.Of(mine)
	later := made("own")
	m.Prepare(of(shared, later), of(shared, theirs))
	if m.Of(later) != set || m.Of(mine) != set || m.Of(theirs) == set {
		t.Errorf("before it is in use the new cluster has %p and the old one %p, want %p", m.Of(later), m.Of(mine), set)
	}
	m.Update(of(shared, later), of(shared, theirs))
	if m.Of(later) != set || m.Of(mine) != nil || set.At(addr, nil).Active() != 1 {
		t.Error("the new cluster has not taken over what was known")
	}
	m.Update(of(shared))
	if m.Of(later) != nil || m.Set("own") != nil || set.Config() != nil || m.Of(shared) == nil {
		t.Error("what is in no snapshot is still there")
	}
}
