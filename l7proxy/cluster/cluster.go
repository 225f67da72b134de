// Package cluster chooses the endpoint of a request: priorities, localities,
// subsets and balancing policies as Envoy defines them, plus the memory of
// endpoints that could not be reached. It resolves DNS names, but opens no
// connection: its users tell it how their connects went.
//
// A Manager follows snapshots and owns one Set per cluster. Set.Pick is on the
// path of every request: it takes no lock, reads no clock and allocates nothing.
package cluster

import (
	"errors"
	"net/netip"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// The errors of Set.Pick.
var (
	// ErrNoCluster says that the cluster is in no snapshot any more.
	ErrNoCluster = errors.New("pick endpoint: no such cluster")
	// ErrNoEndpoint says that the cluster, or the asked subset of it, has no
	// endpoint that may be used and that Choice.Exclude admits.
	ErrNoEndpoint = errors.New("pick endpoint: no endpoint")
)

// Choice is what one choice depends on besides the cluster's configuration.
type Choice struct {
	// Random is a fresh random number.
	Random uint64
	// Hash is what the route's hash policy makes of the request; 0: there is none.
	Hash uint64
	// Subset is the metadata that the route asks for; nil for none.
	Subset snapshot.Metadata
	// Exclude tells which addresses must not be chosen, because they were
	// tried already; nil for none. It is called a few times per choice.
	Exclude func(netip.AddrPort) bool
	// Original is the dialled address: the endpoint of an ORIGINAL_DST cluster. Own says
	// that it is a provider's own, and the choice not its consumer's: such a cluster is
	// balanced then, if its endpoints are known.
	Original netip.AddrPort
	Own      bool
}

// admits tells whether e may be chosen at all.
func (c *Choice) admits(e *Endpoint) bool {
	return c.Exclude == nil || !c.Exclude(e.Address)
}

// mix turns a number into one that looks independent of it (splitmix64), so
// that one Choice.Random serves several decisions.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
