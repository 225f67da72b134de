package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

func address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 20880)
}

// endpoints makes n healthy ones from 10.0.0.<first> on.
func endpoints(first, n int) []*snapshot.Endpoint {
	list := make([]*snapshot.Endpoint, n)
	for i := range list {
		list[i] = &snapshot.Endpoint{Address: address(first + i), Weight: 1, Healthy: true}
	}
	return list
}

func weighted(list []*snapshot.Endpoint, weights ...uint32) []*snapshot.Endpoint {
	for i, w := range weights {
		list[i].Weight = w
	}
	return list
}

func ill(list []*snapshot.Endpoint, n int) []*snapshot.Endpoint {
	for _, e := range list[:n] {
		e.Healthy = false
	}
	return list
}

func clusterOf(localities ...*snapshot.Locality) *snapshot.Cluster {
	return &snapshot.Cluster{
		Name: "c", Kind: snapshot.ClusterEDS, Localities: localities, Overprovision: 140, PanicThreshold: 50,
	}
}

func plain(list []*snapshot.Endpoint) *snapshot.Cluster {
	return clusterOf(&snapshot.Locality{Endpoints: list})
}

func newTestManager(t *testing.T, opts Options) *Manager {
	t.Helper()
	m := NewManager(slog.New(slog.DiscardHandler), opts)
	t.Cleanup(m.Close)
	return m
}

func update(m *Manager, clusters ...*snapshot.Cluster) {
	s := &snapshot.Snapshot{Clusters: make(map[string]*snapshot.Cluster)}
	for _, c := range clusters {
		s.Clusters[c.Name] = c
	}
	m.Update(s.Seal())
}

func setOf(t *testing.T, c *snapshot.Cluster) *Set {
	t.Helper()
	m := newTestManager(t, Options{})
	update(m, c)
	return m.Set(c.Name)
}

// sample picks n times and counts by the last two bytes of the address.
func sample(t *testing.T, s *Set, n int, c Choice) map[int]int {
	t.Helper()
	random := rand.New(rand.NewPCG(7, 7))
	counts := make(map[int]int)
	for range n {
		c.Random = random.Uint64()
		e, err := s.Pick(c)
		if err != nil {
			t.Fatalf("pick: %v", err)
		}
		counts[number(e.Address)]++
	}
	return counts
}

func number(a netip.AddrPort) int {
	b := a.Addr().As4()
	return int(b[2])<<8 | int(b[3])
}

func counted(counts map[int]int, numbers ...int) []int {
	list := make([]int, len(numbers))
	for i, n := range numbers {
		list[i] = counts[n]
	}
	return list
}

func TestRoundRobinTakesTurns(t *testing.T) {
	s := setOf(t, plain(endpoints(0, 3)))
	if got := counted(sample(t, s, 300, Choice{}), 0, 1, 2); fmt.Sprint(got) != "[100 100 100]" {
		t.Errorf("300 picks went %v", got)
	}
	s = setOf(t, plain(weighted(endpoints(0, 3), 3, 2, 1)))
	for i, n := range counted(sample(t, s, 600, Choice{}), 0, 1, 2) {
		if want := 300 - 100*i; n < want-2 || n > want+2 {
			t.Errorf("endpoint %d got %d of 600 picks, want %d", i, n, want)
		}
	}
}

func TestRandomFollowsWeights(t *testing.T) {
	c := plain(weighted(endpoints(0, 4), 1, 2, 3, 4))
	c.Policy = snapshot.Random
	counts := sample(t, setOf(t, c), 20_000, Choice{})
	fits(t, counted(counts, 0, 1, 2, 3), []uint64{1, 2, 3, 4})
}

func TestLeastRequest(t *testing.T) {
	c := plain(endpoints(0, 2))
	c.Policy, c.ChoiceCount = snapshot.LeastRequest, 2
	s := setOf(t, c)
	fits(t, counted(sample(t, s, 10_000, Choice{}), 0, 1), []uint64{1, 1})

	// A busy endpoint is chosen only when both draws fall on it.
	busy := find(t, s, 0)
	busy.Begin()
	fits(t, counted(sample(t, s, 10_000, Choice{}), 0, 1), []uint64{1, 3})
	busy.End(rpc.OutcomeOK)
	if busy.Active() != 0 {
		t.Errorf("active is %d after End", busy.Active())
	}
}

// Where the weights differ the share is weight / (in flight + 1) ^ bias. With 2 and 1
// and requests that do not end the numbers in flight a and b grow by 2/a^bias and
// 1/b^bias, so that a : b is 2 ^ (1 / (1 + bias)).
func TestLeastRequestWeights(t *testing.T) {
	for _, tt := range []struct {
		bias  float64
		heavy int64 // of 3000
	}{
		{0, 2000}, {1, 1757}, {2, 1673}, {0.5, 1840},
	} {
		for _, others := range []int{0, 30} { // of such a weight that they get nearly nothing
			list := weighted(endpoints(0, 2+others), 2_000_000, 1_000_000)
			c := plain(list)
			c.Policy, c.Bias = snapshot.LeastRequest, tt.bias
			s := setOf(t, c)
			for n := range uint64(3000) {
				pick(t, s, Choice{Random: mix(n)}).Begin()
			}
			heavy, light := find(t, s, 0).Active(), find(t, s, 1).Active()
			bound := int64(60)
			if others > 0 {
				bound = 120 // 16 are drawn
			}
			if heavy < tt.heavy-bound || heavy > tt.heavy+bound || heavy+light < 2990 {
				t.Errorf("bias %v, %d others: in flight are %d and %d, want %d", tt.bias, others, heavy, light, tt.heavy)
			}
		}
	}
}

func TestChoiceCount(t *testing.T) {
	c := plain(endpoints(0, 4))
	c.Policy, c.ChoiceCount = snapshot.LeastRequest, 40
	s := setOf(t, c)
	for i := range 3 {
		find(t, s, i).Begin()
	}
	if n := sample(t, s, 1000, Choice{})[3]; n < 995 {
		t.Errorf("the idle one of 4 got %d of 1000 picks with 40 draws each", n)
	}
}

func pick(t *testing.T, s *Set, c Choice) *Endpoint {
	t.Helper()
	e, err := s.Pick(c)
	if err != nil {
		t.Fatalf("pick: %v", err)
	}
	return e
}

// find returns the endpoint 10.0.x.y of a set.
func find(t *testing.T, s *Set, n int) *Endpoint {
	t.Helper()
	for _, p := range s.state.Load().places {
		for _, e := range p.endpoints {
			if number(e.Address) == n {
				return e
			}
		}
	}
	t.Fatalf("no endpoint %d", n)
	return nil
}

func TestPriorities(t *testing.T) {
	// Half of the first priority is ill: it keeps 70 %.
	s := setOf(t, clusterOf(
		&snapshot.Locality{Priority: 1, Endpoints: endpoints(10, 1)},
		&snapshot.Locality{Priority: 0, Endpoints: ill(endpoints(0, 2), 1)},
	))
	fits(t, counted(sample(t, s, 10_000, Choice{}), 0, 1, 10), []uint64{0, 70, 30})

	// Numbers of priorities may have gaps.
	s = setOf(t, clusterOf(
		&snapshot.Locality{Priority: 7, Endpoints: endpoints(10, 1)},
		&snapshot.Locality{Priority: 3, Endpoints: ill(endpoints(0, 2), 2)},
	))
	fits(t, counted(sample(t, s, 1000, Choice{}), 0, 1, 10), []uint64{0, 0, 1})
}

func TestPanic(t *testing.T) {
	c := plain(ill(endpoints(0, 4), 3))
	s := setOf(t, c)
	fits(t, counted(sample(t, s, 4000, Choice{}), 0, 1, 2, 3), []uint64{1, 1, 1, 1})

	c.PanicThreshold = 0
	s = setOf(t, c)
	fits(t, counted(sample(t, s, 1000, Choice{}), 0, 1, 2, 3), []uint64{0, 0, 0, 1})

	c = plain(ill(endpoints(0, 4), 4))
	c.PanicThreshold = 0
	if _, err := setOf(t, c).Pick(Choice{}); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("pick of ill endpoints without panic: %v, want ErrNoEndpoint", err)
	}
}

// In panic who is about to leave is left alone, unless there is nobody else.
func TestPanicSparesTheDraining(t *testing.T) {
	list := ill(endpoints(0, 4), 4)
	list[1].Draining, list[3].Draining = true, true
	s := setOf(t, plain(list))
	fits(t, counted(sample(t, s, 2000, Choice{}), 0, 1, 2, 3), []uint64{1, 0, 1, 0})
	list = ill(endpoints(0, 2), 2)
	list[0].Draining, list[1].Draining = true, true
	fits(t, counted(sample(t, setOf(t, plain(list)), 2000, Choice{}), 0, 1), []uint64{1, 1})
}

// The table of Envoy's documentation on locality weights: X weighs 1, Y 2.
func TestLocalityWeights(t *testing.T) {
	for _, tt := range []struct{ fit, x, y int }{
		{100, 333, 667}, {70, 329, 671}, {69, 326, 674}, {50, 259, 741}, {25, 149, 851}, {0, 0, 1000},
	} {
		x, y := ill(endpoints(0, 100), 100-tt.fit), endpoints(1000, 100)
		c := clusterOf(
			&snapshot.Locality{Zone: "x", Weight: 1, Endpoints: x},
			&snapshot.Locality{Zone: "y", Weight: 2, Endpoints: y},
			&snapshot.Locality{Zone: "z", Endpoints: endpoints(2000, 5)}, // no weight, no load
		)
		c.LocalityWeighted = true
		s := setOf(t, c)
		got := [3]int{}
		for n, count := range sample(t, s, 10_000, Choice{}) {
			got[n/1000] += count
		}
		if d := got[0] - 10*tt.x; d < -20 || d > 20 || got[2] != 0 {
			t.Errorf("with %d %% of X healthy the load is %v of 10,000, want %d0 and %d0", tt.fit, got, tt.x, tt.y)
		}
	}
}

// Without locality_weighted_lb_config all healthy endpoints are equal.
func TestLocalitiesUnweighted(t *testing.T) {
	s := setOf(t, clusterOf(
		&snapshot.Locality{Zone: "x", Weight: 1, Endpoints: endpoints(0, 1)},
		&snapshot.Locality{Zone: "y", Weight: 5, Endpoints: endpoints(1, 2)},
	))
	fits(t, counted(sample(t, s, 3000, Choice{}), 0, 1, 2), []uint64{1, 1, 1})
}

func TestExclude(t *testing.T) {
	s := setOf(t, plain(endpoints(0, 3)))
	tried := map[netip.AddrPort]bool{}
	exclude := func(a netip.AddrPort) bool { return tried[a] }
	for n := range uint64(3) {
		e := pick(t, s, Choice{Random: mix(n), Exclude: exclude})
		if tried[e.Address] {
			t.Fatalf("picked %s, which is excluded", e.Address)
		}
		tried[e.Address] = true
	}
	if _, err := s.Pick(Choice{Exclude: exclude}); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("pick with everything excluded: %v, want ErrNoEndpoint", err)
	}
	// What is excluded leaves its share to all others alike.
	tried = map[netip.AddrPort]bool{address(1): true}
	s = setOf(t, plain(endpoints(0, 5)))
	fits(t, counted(sample(t, s, 10_000, Choice{Exclude: exclude}), 0, 1, 2, 3, 4), []uint64{1, 0, 1, 1, 1})
}

func TestNoCluster(t *testing.T) {
	m := newTestManager(t, Options{})
	if m.Set("c") != nil {
		t.Error("a manager without snapshot has a set")
	}
	update(m, clusterOf())
	s := m.Set("c")
	if _, err := s.Pick(Choice{}); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("pick of an empty cluster: %v, want ErrNoEndpoint", err)
	}
	if s.Name() != "c" || s.Config() == nil {
		t.Errorf("the set is %q, %v", s.Name(), s.Config())
	}
	update(m)
	if _, err := s.Pick(Choice{}); !errors.Is(err, ErrNoCluster) {
		t.Errorf("pick of a removed cluster: %v, want ErrNoCluster", err)
	}
	if m.Set("c") != nil || s.Config() != nil {
		t.Error("a removed cluster is still there")
	}
}

// fits fails when counts are not a plausible sample of the weights: Pearson's
// chi-square over its mean by more than six standard deviations.
func fits(t *testing.T, counts []int, weights []uint64) {
	t.Helper()
	var n, total float64
	for i := range counts {
		n += float64(counts[i])
		total += float64(weights[i])
	}
	var chi float64
	freedom := -1.0
	for i, c := range counts {
		want := n * float64(weights[i]) / total
		if want == 0 {
			if c != 0 {
				t.Errorf("slot %d of weight 0 got %d", i, c)
			}
			continue
		}
		chi += (float64(c) - want) * (float64(c) - want) / want
		freedom++
	}
	if freedom > 0 && chi > freedom+6*math.Sqrt(2*freedom) {
		t.Errorf("counts %v do not fit the weights %v (chi-square %.1f with %.0f degrees of freedom)", counts, weights, chi, freedom)
	}
}
