package mtls

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// Dialer encrypts what another dials, where the key says so. The short cut within a node
// is not encrypted: its bytes never leave the kernel.
type Dialer struct {
	upstream.Dialer

	Ends    *Ends
	Account func(uid string) identity.Account // of a workload; zero: none is known
}

var _ upstream.Dialer = (*Dialer)(nil)

// Dial connects to key.Endpoint. Part of upstream.Dialer.
func (d *Dialer) Dial(ctx context.Context, key upstream.Key, client netip.AddrPort) (upstream.Way, error) {
	way, err := d.Dialer.Dial(ctx, key, client)
	if err != nil || !key.TLS.On || way.SameNode {
		return way, err
	}
	c, err := sock.New(way.TCP)
	if err != nil {
		_ = way.TCP.Close()
		return upstream.Way{}, fmt.Errorf("encrypt: %w", err)
	}
	peer, err := d.Ends.Client(ctx, c, d.Account(key.Workload), key.TLS)
	if err != nil {
		_ = c.Close()
		return upstream.Way{}, err
	}
	way.Secured, way.Principal, way.Own, way.Until = c, peer.Principal, peer.Own, peer.Until
	return way, nil
}
