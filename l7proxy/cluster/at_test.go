package cluster

import (
	"testing"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestAt: an endpoint that a consumer has chosen is used while it may be.
func TestAt(t *testing.T) {
	m := newTestManager(t, Options{})
	list := ill(endpoints(1, 3), 1)
	list[1].Metadata = snapshot.Metadata{"version": `"v1"`}
	divided := plain(list)
	divided.Name = "divided"
	divided.Subsets = &snapshot.Subsets{Fallback: snapshot.FallbackAny, Selectors: [][]string{{"version"}}}
	original := &snapshot.Cluster{Name: "original", Kind: snapshot.ClusterOriginalDst}
	one := plain(endpoints(1, 1))
	one.Name = "one"
	update(m, plain(list), divided, original, one)
	v1 := snapshot.Metadata{"version": `"v1"`}

	for _, c := range []struct {
		cluster string
		at      int
		subset  snapshot.Metadata
		want    bool
	}{
		{"c", 1, nil, false}, {"c", 2, nil, true}, {"c", 3, v1, true}, {"c", 4, nil, false},
		{"divided", 2, v1, true}, {"divided", 3, v1, false}, {"divided", 3, nil, true},
		{"original", 9, nil, true}, {"one", 1, nil, true},
	} {
		e := m.Set(c.cluster).At(address(c.at), c.subset)
		if (e != nil) != c.want || e != nil && e.Address != address(c.at) {
			t.Errorf("%s at %d for %v: %v, want %v", c.cluster, c.at, c.subset, e, c.want)
		}
	}
	for _, c := range []struct {
		cluster     string
		at          int
		has, others bool
	}{
		{"c", 1, true, true}, {"c", 9, false, true}, {"one", 1, true, false}, {"one", 2, false, true}, {"original", 9, false, false},
	} {
		if set := m.Set(c.cluster); set.Has(address(c.at)) != c.has || set.Others(address(c.at)) != c.others {
			t.Errorf("%s: has %d %v, others %v", c.cluster, c.at, set.Has(address(c.at)), set.Others(address(c.at)))
		}
	}

	set := m.Set("c")
	set.At(address(2), nil).Failed()
	if e := set.At(address(2), nil); e != nil {
		t.Error("an endpoint that cannot be connected to was given")
	}
	set.known[address(2)].Connected()
	if set.At(address(2), nil) == nil {
		t.Error("an endpoint that can be connected to again was not given")
	}
	update(m)
	if set.At(address(2), nil) != nil || set.Has(address(2)) || set.Others(address(2)) {
		t.Error("a cluster that is gone has endpoints")
	}
}
