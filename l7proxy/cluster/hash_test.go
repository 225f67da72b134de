package cluster

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// hashing makes a cluster choose by hash.
func hashing(c *snapshot.Cluster, policy snapshot.Policy) *snapshot.Cluster {
	c.Policy = policy
	c.Hashing = snapshot.Hashing{MinRing: 4096, MaxRing: 8 << 20, TableSize: 65537}
	return c
}

// each runs a test for both policies.
func each(t *testing.T, f func(t *testing.T, policy snapshot.Policy)) {
	t.Helper()
	for policy, name := range map[snapshot.Policy]string{snapshot.RingHash: "ring", snapshot.Maglev: "maglev"} {
		t.Run(name, func(t *testing.T) { f(t, policy) })
	}
}

// inBubble makes time stand still in f: what is avoided stays so.
func inBubble(f func(t *testing.T, policy snapshot.Policy)) func(t *testing.T, policy snapshot.Policy) {
	return func(t *testing.T, policy snapshot.Policy) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) { f(t, policy) })
	}
}

// spread counts which endpoints many hashes belong to.
func spread(t *testing.T, s *Set, n int) map[int]int {
	t.Helper()
	random := rand.New(rand.NewPCG(3, 4))
	counts := make(map[int]int)
	for range n {
		hash := random.Uint64() | 1
		e := pick(t, s, Choice{Hash: hash, Random: random.Uint64()})
		counts[number(e.Address)]++
		if again := pick(t, s, Choice{Hash: hash, Random: random.Uint64()}); again != e {
			t.Fatalf("hash %d leads to %s and %s", hash, e.Address, again.Address)
		}
	}
	return counts
}

// near checks shares within a tenth: a ring of 4096 points is not more even.
func near(t *testing.T, counts []int, want ...float64) {
	t.Helper()
	var sum, all float64
	for i := range counts {
		sum += float64(counts[i])
		all += want[i]
	}
	for i := range counts {
		if got := float64(counts[i]) / sum * all; got < 0.88*want[i] || got > 1.12*want[i] {
			t.Errorf("the shares are %v, want them like %v", counts, want)
			return
		}
	}
}

func TestHash(t *testing.T) {
	each(t, func(t *testing.T, policy snapshot.Policy) {
		s := setOf(t, hashing(plain(weighted(endpoints(0, 4), 1, 2, 3, 4)), policy))
		near(t, counted(spread(t, s, 40_000), 0, 1, 2, 3), 1, 2, 3, 4)
		// Without a hash the choice is random, by weight too.
		near(t, counted(sample(t, s, 40_000, Choice{}), 0, 1, 2, 3), 1, 2, 3, 4)
	})
}

// An endpoint that cannot be used leaves its hashes to the others, always the same;
// those of the others stay.
func TestHashOfTheMissing(t *testing.T) {
	each(t, inBubble(func(t *testing.T, policy snapshot.Policy) {
		c := hashing(plain(endpoints(0, 5)), policy)
		s := setOf(t, c)
		before := make(map[uint64]int)
		for range 2000 {
			hash := rand.Uint64() | 1
			before[hash] = number(pick(t, s, Choice{Hash: hash}).Address)
		}
		gone := address(2)
		for name, lose := range map[string]func() (func(netip.AddrPort) bool, func()){
			"excluded": func() (func(netip.AddrPort) bool, func()) {
				return func(a netip.AddrPort) bool { return a == gone }, func() {}
			},
			"avoided": func() (func(netip.AddrPort) bool, func()) {
				find(t, s, 2).Failed()
				return nil, find(t, s, 2).Connected
			},
		} {
			exclude, undo := lose()
			counts := make(map[int]int)
			for hash, was := range before {
				got := number(pick(t, s, Choice{Hash: hash, Exclude: exclude, Random: rand.Uint64()}).Address)
				again := number(pick(t, s, Choice{Hash: hash, Exclude: exclude, Random: rand.Uint64()}).Address)
				if got == 2 || again != got || was != 2 && got != was {
					t.Fatalf("%s: hash %d of endpoint %d leads to %d and %d", name, hash, was, got, again)
				}
				if was == 2 {
					counts[got]++
				}
			}
			if len(counts) != 4 {
				t.Errorf("%s: the missing one's hashes go to %v, want all four others", name, counts)
			}
			undo()
		}
	}))
}

// Localities get their weights of the hashes, whatever the number of their endpoints,
// and priorities their load.
func TestHashLocalities(t *testing.T) {
	each(t, func(t *testing.T, policy snapshot.Policy) {
		c := hashing(clusterOf(
			&snapshot.Locality{Zone: "x", Weight: 1, Endpoints: endpoints(0, 3)},
			&snapshot.Locality{Zone: "y", Weight: 3, Endpoints: endpoints(100, 1)},
			&snapshot.Locality{Zone: "z", Endpoints: endpoints(200, 1)},
		), policy)
		c.LocalityWeighted = true
		got := spread(t, setOf(t, c), 30_000)
		near(t, []int{got[0] + got[1] + got[2], got[100]}, 1, 3)
		if got[200] != 0 {
			t.Errorf("a locality without weight has %d hashes", got[200])
		}

		c = hashing(clusterOf(
			&snapshot.Locality{Endpoints: ill(endpoints(0, 2), 1)},
			&snapshot.Locality{Priority: 1, Endpoints: endpoints(10, 2)},
		), policy)
		got = spread(t, setOf(t, c), 30_000)
		near(t, []int{got[1], got[10] + got[11]}, 70, 30)
		if got[0] != 0 {
			t.Errorf("an ill endpoint has %d hashes", got[0])
		}
	})
}

func TestHashSubsets(t *testing.T) {
	each(t, func(t *testing.T, policy snapshot.Policy) {
		list := endpoints(0, 4)
		for i, e := range list {
			e.Metadata = snapshot.Metadata{"version": fmt.Sprintf("%q", []string{"v1", "v2"}[i%2])}
		}
		c := hashing(plain(list), policy)
		c.Subsets = &snapshot.Subsets{Selectors: [][]string{{"version"}}}
		s := setOf(t, c)
		for range 200 {
			choice := Choice{Hash: rand.Uint64() | 1, Subset: snapshot.Metadata{"version": `"v2"`}}
			if n := number(pick(t, s, choice).Address); n%2 != 1 {
				t.Fatalf("endpoint %d is not of the subset", n)
			}
		}
	})
}

// The keys are Envoy's: the metadata hash_key before the name before the address.
func TestHashKeys(t *testing.T) {
	for _, tt := range []struct {
		info snapshot.Endpoint
		name bool
		want string
	}{
		{snapshot.Endpoint{}, false, "10.0.0.1:20880"},
		{snapshot.Endpoint{Hostname: "a.b"}, false, "10.0.0.1:20880"},
		{snapshot.Endpoint{Hostname: "a.b"}, true, "a.b"},
		{snapshot.Endpoint{}, true, "10.0.0.1:20880"},
		{snapshot.Endpoint{Hostname: "a.b", Metadata: snapshot.Metadata{"hash_key": `"k\"1"`}}, true, `k"1`},
		{snapshot.Endpoint{Metadata: snapshot.Metadata{"hash_key": `7`}}, false, "10.0.0.1:20880"}, // no text
	} {
		c := &snapshot.Cluster{Hashing: snapshot.Hashing{ByHostname: tt.name}}
		if got := hashKey(c, &Endpoint{Address: address(1), Info: &tt.info}); got != tt.want {
			t.Errorf("%+v: the key is %q, want %q", tt.info, got, tt.want)
		}
	}
}
