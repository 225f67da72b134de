// Package names resolves the host names of endpoints again and again. It chooses no
// address and connects to none.
package names

import (
	"context"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Resolver resolves host names; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

const (
	dnsRefresh = 5 * time.Second // Envoy's default
	dnsTimeout = 5 * time.Second
)

// Name is a name with the rate at which it is to be resolved.
type Name struct {
	Host    string
	Refresh time.Duration
}

// Of returns what is to be resolved for an endpoint that has a host name.
func Of(c *snapshot.Cluster, e *snapshot.Endpoint) Name {
	if c.DNSRefresh <= 0 {
		return Name{e.Hostname, dnsRefresh}
	}
	return Name{e.Hostname, c.DNSRefresh}
}

// All returns the names of a cluster's endpoints.
func All(c *snapshot.Cluster) map[Name]bool {
	if c.Kind != snapshot.ClusterStrictDNS {
		return nil
	}
	set := make(map[Name]bool)
	for _, l := range c.Localities {
		for _, e := range l.Endpoints {
			if e.Hostname != "" {
				set[Of(c, e)] = true
			}
		}
	}
	return set
}

// Follower resolves names again and again, a goroutine for each. The last good
// addresses stay while resolving fails.
type Follower struct {
	logger   *slog.Logger
	resolver Resolver
	changed  func(Name)      // called without a lock
	ctx      context.Context //nolint:containedctx // the life of the goroutines, ended by close
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu      sync.Mutex
	lookups map[Name]*lookup
}

type lookup struct {
	stop      context.CancelFunc
	addresses []netip.Addr // sorted
	err       error        // of the last attempt
}

// New returns a Follower without names. Changed is called, without a lock, when the
// addresses of one are others than before. Close ends it.
func New(logger *slog.Logger, r Resolver, changed func(Name)) *Follower {
	d := &Follower{logger: logger, resolver: r, changed: changed, lookups: make(map[Name]*lookup)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Close stops to resolve, and waits.
func (d *Follower) Close() {
	d.mu.Lock() // no goroutine starts after it
	d.cancel()
	d.mu.Unlock()
	d.running.Wait()
}

// Want starts to resolve the names of clusters and stops to resolve others.
func (d *Follower) Want(clusters iter.Seq[*snapshot.Cluster]) {
	d.mu.Lock()
	defer d.mu.Unlock()
	wanted := make(map[Name]bool)
	for c := range clusters {
		for name := range All(c) {
			wanted[name] = true
			if d.lookups[name] == nil && d.ctx.Err() == nil {
				ctx, stop := context.WithCancel(d.ctx)
				d.lookups[name] = &lookup{stop: stop}
				d.running.Go(func() { d.run(ctx, name) })
			}
		}
	}
	for name, l := range d.lookups {
		if !wanted[name] {
			l.stop()
			delete(d.lookups, name)
		}
	}
}

// Addresses returns what a name last resolved to.
func (d *Follower) Addresses(name Name) []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.lookups[name]; l != nil {
		return l.addresses
	}
	return nil
}

// Failure returns why a name does not resolve, nil if it does.
func (d *Follower) Failure(name Name) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.lookups[name]; l != nil {
		return l.err
	}
	return nil
}

func (d *Follower) run(ctx context.Context, name Name) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if addrs, err := d.resolve(ctx, name.Host); ctx.Err() == nil && d.keep(ctx, name, addrs, err) {
			d.changed(name)
		}
		timer.Reset(name.Refresh)
	}
}

// resolve returns the sorted addresses of a host: its IPv4 ones, or its IPv6
// ones when it has no other. A mix would send a share of the calls of a pod
// with one family to addresses that it cannot reach.
func (d *Follower) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	found, err := d.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 0, len(found))
	for _, a := range found {
		addrs = append(addrs, a.Unmap())
	}
	if slices.ContainsFunc(addrs, netip.Addr.Is4) {
		addrs = slices.DeleteFunc(addrs, netip.Addr.Is6)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

// keep stores a result and reports whether it changes the addresses.
func (d *Follower) keep(ctx context.Context, name Name, addrs []netip.Addr, err error) (changed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lookups[name]
	if l == nil || ctx.Err() != nil { // no longer wanted, or wanted anew by another goroutine
		return false
	}
	if err != nil && l.err == nil {
		d.logger.Warn("cannot resolve endpoint name", "host", name.Host, "error", err)
	}
	l.err = err
	if err != nil || slices.Equal(l.addresses, addrs) {
		return false
	}
	l.addresses = addrs
	return true
}
