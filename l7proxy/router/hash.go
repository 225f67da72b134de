package router

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Hash returns what the hash policies of a route make of a request, and 0 if they
// find nothing to hash: then the endpoint is chosen at random. Source is the
// consumer's address. As in Envoy it is xxHash64 of each value, the sum of those
// before rotated by a bit, so that equal values do not cancel each other out. It
// allocates nothing.
func Hash(policies []snapshot.HashPolicy, req *rpc.Request, source netip.Addr) uint64 {
	var sum uint64
	found := false
	m := newMatcher(req)
	for i := range policies {
		p := &policies[i]
		if h, ok := m.hash(p, source); ok {
			sum = bits.RotateLeft64(sum, 1) ^ h
			found = true
		}
		if p.Terminal && found {
			break
		}
	}
	if found && sum == 0 {
		return 1 // one hash in 2^64; 0 means none
	}
	return sum
}

// hash hashes one value; false if the request has none.
func (m *matcher) hash(p *snapshot.HashPolicy, source netip.Addr) (uint64, bool) {
	if p.SourceIP {
		var b [64]byte
		return xxhash.Sum64(source.AppendTo(b[:0])), true
	}
	value, ok := m.values.Value(&snapshot.HeaderMatch{Source: p.Source, Name: p.Name, Index: p.Index})
	if !ok {
		return 0, false
	}
	var d xxhash.Digest
	d.Reset()
	for _, piece := range value {
		_, _ = d.WriteString(piece) // never fails
	}
	return d.Sum64(), true
}

// hashed tells of what the endpoint of a call depends, where its cluster hashes.
func (e *explanation) hashed(a *snapshot.Action) {
	if len(a.Hash) == 0 {
		return
	}
	var parts []string
	m := newMatcher(e.request())
	for i := range a.Hash {
		p := &a.Hash[i]
		if p.SourceIP {
			parts = append(parts, "the consumer's address")
			continue
		}
		of := snapshot.HeaderMatch{Source: p.Source, Name: p.Name, Index: p.Index}
		if value, ok := m.values.Value(&of); ok {
			parts = append(parts, fmt.Sprintf("%s %q", describeSource(&of), strings.Join(value[:], "")))
		}
		if p.Terminal && len(parts) > 0 {
			break
		}
	}
	if len(parts) == 0 {
		e.step("hash policy", "no", "the call has nothing that it names: its endpoint is a random one")
		return
	}
	e.step("hash policy", "chosen", "calls with the same "+strings.Join(parts, " and ")+" go to one endpoint, if the cluster hashes")
}
