package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

func TestStatus(t *testing.T) {
	m := newTestManager(t, Options{})
	list := weighted(ill(endpoints(0, 2), 1), 5, 0)
	c := clusterOf(&snapshot.Locality{Priority: 1, Endpoints: endpoints(9, 1)},
		&snapshot.Locality{Region: "r", Zone: "z", SubZone: "s", Endpoints: list})
	c.Policy = snapshot.LeastRequest
	update(m, c, &snapshot.Cluster{Name: "a", Kind: snapshot.ClusterOriginalDst})
	find(t, m.Set("c"), 1).Begin()
	find(t, m.Set("c"), 1).Failed()
	pick(t, m.Set("a"), Choice{Original: address(3)})
	got, err := json.Marshal(m.Status())
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"name":"a","kind":"ORIGINAL_DST","policy":"ROUND_ROBIN","endpoints":[` +
		`{"address":"10.0.0.3:20880","priority":0,"weight":1,"healthy":true,"avoided":false,"failures":0,"active":0}]},` +
		`{"name":"c","kind":"EDS","policy":"LEAST_REQUEST","endpoints":[` +
		`{"address":"10.0.0.0:20880","locality":"r/z/s","priority":0,"weight":5,"healthy":false,"avoided":false,"failures":0,"active":0},` +
		`{"address":"10.0.0.1:20880","locality":"r/z/s","priority":0,"weight":1,"healthy":true,"avoided":true,"failures":1,"active":1},` +
		`{"address":"10.0.0.9:20880","priority":1,"weight":1,"healthy":true,"avoided":false,"failures":0,"active":0}]}]`
	if string(got) != want {
		t.Errorf("status is\n%s\nwant\n%s", got, want)
	}
}

// Picks, failures, updates, removals and status at once; for the race detector,
// and for what must hold throughout.
func TestConcurrency(t *testing.T) {
	m := newTestManager(t, Options{})
	generation := func(n int) *snapshot.Cluster {
		c := clusterOf(
			&snapshot.Locality{Weight: 1, Endpoints: endpoints(n%3, 4)},
			&snapshot.Locality{Weight: 2, Endpoints: endpoints(10, 4)},
			&snapshot.Locality{Priority: 1, Endpoints: endpoints(20, 2)},
		)
		c.Policy, c.LocalityWeighted = snapshot.Policy(n%3), n%2 == 0
		return c
	}
	dst := &snapshot.Cluster{Name: "dst", Kind: snapshot.ClusterOriginalDst}
	update(m, generation(0), dst)
	var work sync.WaitGroup
	for seed := range uint64(4) {
		work.Go(func() {
			random := rand.New(rand.NewPCG(seed, 1))
			for range 3000 {
				c := Choice{Random: random.Uint64(), Original: address(100 + random.IntN(1000))}
				c.Exclude = func(a netip.AddrPort) bool { return number(a) == 11 }
				e, err := m.Set("c").Pick(c)
				if err != nil || number(e.Address) == 11 {
					t.Errorf("pick: %v, %v", e, err)
					return
				}
				e.Begin()
				if random.IntN(50) == 0 {
					e.Failed()
				} else if random.IntN(10) == 0 {
					e.Connected()
				}
				e.End(rpc.OutcomeOK)
				if s := m.Set("dst"); s != nil {
					if _, err := s.Pick(c); err != nil && !errors.Is(err, ErrNoCluster) {
						t.Errorf("pick of the original: %v", err)
						return
					}
				}
			}
		})
	}
	for n := range 200 {
		if n%2 == 0 {
			update(m, generation(n), dst)
		} else {
			update(m, generation(n))
		}
		if n%20 == 0 {
			m.Status()
		}
	}
	work.Wait()
	for _, p := range m.Set("c").state.Load().places {
		for _, e := range p.endpoints {
			if e.Active() != 0 {
				t.Errorf("active of %s is %d in the end", e.Address, e.Active())
			}
		}
	}
}

// paths are the kinds of set whose Pick must not allocate.
func paths(tb testing.TB) map[string]func() (*Endpoint, error) {
	tb.Helper()
	m := NewManager(nil, Options{})
	tb.Cleanup(m.Close)
	named := func(name string, c *snapshot.Cluster) *snapshot.Cluster {
		c.Name = name
		return c
	}
	least := plain(endpoints(0, 100))
	least.Policy = snapshot.LeastRequest
	spread := plain(weighted(endpoints(0, 5), 1, 2, 3, 4, 5))
	local := clusterOf(&snapshot.Locality{Weight: 1, Endpoints: endpoints(0, 3)}, &snapshot.Locality{Weight: 3, Endpoints: endpoints(9, 3)})
	local.LocalityWeighted = true
	subset := plain(tagged())
	subset.Subsets = &snapshot.Subsets{Selectors: [][]string{{"color", "version"}, {"version"}}}
	update(m, named("equal", plain(endpoints(0, 100))), named("weighted", spread), named("least", least),
		named("localities", local), named("subset", subset),
		named("failed", plain(endpoints(0, 3))), named("original", &snapshot.Cluster{Kind: snapshot.ClusterOriginalDst}))
	for i := range 3 {
		for _, p := range m.Set("failed").state.Load().places {
			p.endpoints[i].Failed()
		}
	}
	found := make(map[string]func() (*Endpoint, error))
	random := uint64(1)
	tried := address(0)
	exclude := func(a netip.AddrPort) bool { return a == tried }
	v1 := snapshot.Metadata{"version": `"v1"`}
	for _, name := range []string{"equal", "weighted", "least", "localities", "subset", "failed", "original"} {
		s := m.Set(name)
		c := Choice{Original: address(5), Exclude: exclude}
		if name == "subset" {
			c.Subset = v1
		}
		found[name] = func() (*Endpoint, error) {
			random = mix(random)
			c.Random = random
			return s.Pick(c)
		}
	}
	return found
}

func TestPickDoesNotAllocate(t *testing.T) {
	for name, pick := range paths(t) {
		t.Run(name, func(t *testing.T) {
			if n := testing.AllocsPerRun(1000, func() {
				if _, err := pick(); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("pick allocates %v times", n)
			}
		})
	}
}

func BenchmarkPick(b *testing.B) {
	for name, pick := range paths(b) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := pick(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// An update of a node's whole configuration, as a push makes it.
func BenchmarkUpdate(b *testing.B) {
	m := NewManager(nil, Options{})
	defer m.Close()
	var pushes [2]*snapshot.Snapshot
	for n := range pushes {
		s := &snapshot.Snapshot{Clusters: make(map[string]*snapshot.Cluster)}
		for i := range 1000 {
			c := plain(weighted(endpoints(5*i, 5), 1, 2, 3, 4, 5))
			c.Name = fmt.Sprint("cluster-", i)
			s.Clusters[c.Name] = c
		}
		pushes[n] = s
	}
	for n := 0; b.Loop(); n++ {
		m.Update(pushes[n%2])
	}
}
