package cluster

import (
	"fmt"
	"testing"

	"github.com/dubway/dubway/l7proxy/cluster/zone"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// zoned is a cluster with so many endpoints in each zone of region r: those of zone z0
// from 10.0.0.0 on, of z1 from 10.0.1.0 on.
func zoned(counts ...int) *snapshot.Cluster {
	c := clusterOf()
	for i, n := range counts {
		c.Localities = append(c.Localities, &snapshot.Locality{
			Region: "r", Zone: fmt.Sprint("z", i), SubZone: fmt.Sprint("s", i), Endpoints: endpoints(256*i, n),
		})
	}
	c.ZoneAware = &snapshot.ZoneAware{Enabled: 1, MinSize: 6}
	return c
}

// perZone counts what each zone gets of 12,000 requests, in per mille.
func perZone(t *testing.T, c *snapshot.Cluster, where string) []int {
	t.Helper()
	z, err := zone.Parse(where)
	if err != nil {
		t.Fatal(err)
	}
	m := newTestManager(t, Options{Zone: z})
	update(m, c)
	counts := make([]int, len(c.Localities))
	for n, count := range sample(t, m.Set("c"), 12_000, Choice{}) {
		counts[n/256] += count
	}
	for i := range counts {
		counts[i] = (counts[i] + 6) / 12
	}
	return counts
}

func TestZoneAware(t *testing.T) {
	for _, tt := range []struct {
		name string
		zone string
		c    *snapshot.Cluster
		edit func(c *snapshot.Cluster)
		want []int
	}{
		{"an equal zone keeps all", "r/z0", zoned(4, 4, 4), nil, []int{1000, 0, 0}},
		{"so does a larger one", "r/z1", zoned(2, 6, 2), nil, []int{0, 1000, 0}},
		// A sixth of the endpoints for a third of the callers: half may stay. The others
		// have 1/2 and 1/3 of the endpoints: only the first has more than a third.
		{"a smaller one keeps its share", "r/z0", zoned(2, 6, 4), nil, []int{500, 500, 0}},
		{"what is left goes where there is spare", "r/z0", zoned(1, 5, 4), nil, []int{300, 500, 200}},
		{"a part of the requests", "r/z0", zoned(4, 4, 4), func(c *snapshot.Cluster) { c.ZoneAware.Enabled = 0.4 }, []int{600, 200, 200}},
		{"a subzone", "r/z1/s1", zoned(4, 4, 4), nil, []int{0, 1000, 0}},
		{"another subzone", "r/z1/s2", zoned(4, 4, 4), nil, []int{333, 333, 333}},
		{"a region alone is one zone", "r", zoned(4, 4, 4), nil, []int{333, 333, 333}},
		{"no endpoint in the zone", "r/z9", zoned(4, 4, 4), nil, []int{333, 333, 333}},
		{"not known", "", zoned(4, 4, 4), nil, []int{333, 333, 333}},
		{"not configured", "r/z0", zoned(4, 4, 4), func(c *snapshot.Cluster) { c.ZoneAware = nil }, []int{333, 333, 333}},
		{"too few endpoints", "r/z0", zoned(2, 2, 1), nil, []int{400, 400, 200}},
		{"a zone whose endpoints are ill", "r/z0", zoned(4, 4, 4), func(c *snapshot.Cluster) { ill(c.Localities[0].Endpoints, 4) }, []int{0, 500, 500}},
		// 1 of 9 for a third: a third stays, and both others have 4/9.
		{"a zone with one left", "r/z0", zoned(4, 4, 4), func(c *snapshot.Cluster) { ill(c.Localities[0].Endpoints, 3) }, []int{333, 333, 333}},
		{"weights hold in the zone", "r/z0", zoned(4, 4, 4), func(c *snapshot.Cluster) {
			weighted(c.Localities[0].Endpoints, 7, 1, 1, 1)
			c.Policy = snapshot.Random
		}, []int{1000, 0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.edit != nil {
				tt.edit(tt.c)
			}
			got := perZone(t, tt.c, tt.zone)
			for i := range got {
				if d := got[i] - tt.want[i]; d < -3 || d > 3 {
					t.Fatalf("the zones get %v of 1000, want %v", got, tt.want)
				}
			}
		})
	}
}

// Only the first priority is zone aware: what fails over is spread.
func TestZoneAwareFailover(t *testing.T) {
	c := zoned(4, 4, 4)
	for _, l := range zoned(4, 4, 4).Localities {
		l.Priority = 1
		for _, e := range l.Endpoints {
			e.Address = address(number(e.Address) + 3*256)
		}
		c.Localities = append(c.Localities, l)
	}
	for _, l := range c.Localities[:3] {
		ill(l.Endpoints, 2) // 70 % stay
	}
	got := perZone(t, c, "r/z0")
	for i, want := range []int{700, 0, 0, 100, 100, 100} {
		if d := got[i] - want; d < -20 || d > 20 {
			t.Fatalf("the zones get %v of 1000", got)
		}
	}
}

// In panic zones do not count; with fail_traffic_on_panic nobody is chosen.
func TestZoneAwarePanic(t *testing.T) {
	c := zoned(4, 4, 4)
	for _, l := range c.Localities {
		ill(l.Endpoints, 3)
	}
	if got := perZone(t, c, "r/z0"); got[0] < 320 || got[0] > 346 {
		t.Errorf("in panic the zones get %v of 1000", got)
	}
	fails := zoned(4, 4, 4)
	fails.ZoneAware.FailOnPanic = true
	for _, l := range fails.Localities {
		ill(l.Endpoints, 3)
	}
	if e, err := setOf(t, fails).Pick(Choice{}); err == nil {
		t.Errorf("%s was chosen in panic", e.Address)
	}
}
