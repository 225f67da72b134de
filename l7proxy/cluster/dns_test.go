package cluster

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// hosts is a Resolver with a table that tests change.
type hosts struct {
	mu      sync.Mutex
	table   map[string][]netip.Addr
	lookups map[string]int
	slow    time.Duration
}

func (h *hosts) set(name string, addrs ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.table == nil {
		h.table, h.lookups = make(map[string][]netip.Addr), make(map[string]int)
	}
	delete(h.table, name)
	for _, a := range addrs {
		h.table[name] = append(h.table[name], netip.MustParseAddr(a))
	}
}

func (h *hosts) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	time.Sleep(h.slow)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lookups[host]++
	if addrs := h.table[host]; network == "ip" && len(addrs) > 0 {
		return addrs, nil
	}
	return nil, errors.New("no such host")
}

func (h *hosts) count(host string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lookups[host]
}

func named(name, host string) *snapshot.Cluster {
	c := plain([]*snapshot.Endpoint{{Hostname: host, Port: 20880, Weight: 1, Healthy: true}})
	c.Name, c.Kind = name, snapshot.ClusterStrictDNS
	return c
}

// addresses lists what a set's endpoints are, in order.
func addressesOf(s *Set) []string {
	set := make(map[string]bool)
	for _, p := range s.state.Load().places {
		for _, e := range p.endpoints {
			set[e.Address.String()] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func TestStrictDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hosts{slow: time.Millisecond}
		h.set("provider", "10.0.0.2", "10.0.0.1")
		m := newTestManager(t, Options{Resolver: h})
		update(m, named("c", "provider"))
		s := m.Set("c")
		if _, err := s.Pick(Choice{}); !errors.Is(err, ErrNoEndpoint) {
			t.Errorf("pick before the name resolves: %v", err)
		}
		check := func(want ...string) {
			t.Helper()
			time.Sleep(2 * h.slow)
			synctest.Wait()
			if got := addressesOf(s); !slices.Equal(got, want) {
				t.Fatalf("addresses are %v, want %v", got, want)
			}
		}
		check("10.0.0.1:20880", "10.0.0.2:20880")
		kept := find(t, s, 1)

		// A new address comes with the next refresh, 5 s later; the others keep
		// their identity.
		h.set("provider", "10.0.0.1", "10.0.0.3")
		time.Sleep(4 * time.Second)
		check("10.0.0.1:20880", "10.0.0.2:20880")
		time.Sleep(2 * time.Second)
		check("10.0.0.1:20880", "10.0.0.3:20880")
		if find(t, s, 1) != kept {
			t.Error("an address that stayed is another endpoint")
		}

		// While resolving fails the last good addresses stay, and it shows.
		h.set("provider")
		time.Sleep(12 * time.Second)
		check("10.0.0.1:20880", "10.0.0.3:20880")
		if got := m.Status()[0].Unresolved; len(got) != 1 || got[0] != "provider: no such host" {
			t.Errorf("unresolved is %q", got)
		}
		h.set("provider", "10.0.0.4")
		time.Sleep(6 * time.Second)
		check("10.0.0.4:20880")
		if got := m.Status()[0].Unresolved; len(got) != 0 {
			t.Errorf("unresolved is %q", got)
		}

		// An update keeps the addresses, the removal ends the look-ups.
		update(m, named("c", "provider"))
		check("10.0.0.4:20880")
		update(m)
		n := h.count("provider")
		time.Sleep(time.Minute)
		if h.count("provider") != n {
			t.Error("a removed name is still looked up")
		}
		m.Close()
	})
}

func TestDNSFamilies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hosts{}
		h.set("both", "fd00::1", "10.0.0.1", "::ffff:10.0.0.2", "10.0.0.1")
		h.set("six", "fd00::2", "fd00::1")
		m := newTestManager(t, Options{Resolver: h})
		update(m, named("a", "both"), named("b", "six"))
		synctest.Wait()
		if got := addressesOf(m.Set("a")); !slices.Equal(got, []string{"10.0.0.1:20880", "10.0.0.2:20880"}) {
			t.Errorf("with both families the addresses are %v", got)
		}
		if got := addressesOf(m.Set("b")); !slices.Equal(got, []string{"[fd00::1]:20880", "[fd00::2]:20880"}) {
			t.Errorf("with IPv6 alone the addresses are %v", got)
		}
		m.Close()
	})
}

func TestDNSRefreshRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hosts{}
		h.set("provider", "10.0.0.1")
		m := newTestManager(t, Options{Resolver: h})
		c := named("c", "provider")
		c.DNSRefresh = time.Second
		update(m, c, named("same", "other"), named("again", "other"))
		time.Sleep(10*time.Second + time.Millisecond)
		if n := h.count("provider"); n != 11 {
			t.Errorf("looked up %d times in 10 s at a rate of 1 s, want 11", n)
		}
		if n := h.count("other"); n != 3 {
			t.Errorf("a name of two clusters was looked up %d times in 10 s, want 3", n)
		}
		m.Close()
		update(m, c, named("new", "third")) // after Close: no look-ups, no panic
	})
}
