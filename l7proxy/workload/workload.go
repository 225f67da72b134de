// Package workload holds the pods of this node as the agent tells of them: who
// a connection belongs to and which addresses are on this node. It opens and
// accepts nothing.
package workload

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Workload is one enrolled pod. Immutable.
type Workload struct {
	handoff.Workload

	// Peer is the pod as labels know it.
	Peer *rpc.Peer
}

// New makes a Workload of what the agent sent.
func New(w handoff.Workload) *Workload {
	peer := &rpc.Peer{
		Workload: w.Name, Pod: w.Name, Namespace: w.Namespace, ServiceAccount: w.ServiceAccount,
		App:     first(w.Labels["app.kubernetes.io/name"], w.Labels["app"]),
		Version: first(w.Labels["app.kubernetes.io/version"], w.Labels["version"]),
	}
	if owner := w.Labels["service.istio.io/workload-name"]; owner != "" {
		peer.Workload = owner
	} else if hash := w.Labels["pod-template-hash"]; hash != "" {
		// The pod of a Deployment is <deployment>-<hash>-<suffix>.
		if name, _, ok := strings.Cut(w.Name, "-"+hash+"-"); ok {
			peer.Workload = name
		}
	}
	if len(w.Addresses) > 0 {
		peer.Address = w.Addresses[0]
	}
	return &Workload{Workload: w, Peer: peer}
}

// Whole is the pod's "namespace/workload", as configuration names it.
func (w *Workload) Whole() string { return w.Namespace + "/" + w.Peer.Workload }

// Account is the service account that the pod runs as.
func (w *Workload) Account() identity.Account {
	return identity.Account{Namespace: w.Namespace, Name: w.ServiceAccount}
}

// Serves tells whether dst is an enrolled port at one of the pod's addresses.
func (w *Workload) Serves(dst netip.AddrPort) bool {
	return slices.Contains(w.Addresses, dst.Addr()) && slices.Contains(w.Ports, dst.Port())
}

// Address returns the pod's address of the family of other, or the zero value.
func (w *Workload) Address(other netip.Addr) netip.Addr {
	for _, a := range w.Addresses {
		if a.Is4() == other.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// Registry is the set of enrolled pods. One goroutine changes it, any reads.
type Registry struct {
	state atomic.Pointer[state]
}

type state struct {
	changes   uint64
	byUID     map[string]*Workload
	byAddress map[netip.Addr]*Workload
}

// NewRegistry returns an empty Registry.
func NewRegistry() *Registry {
	r := &Registry{}
	r.state.Store(&state{})
	return r
}

// Put adds w or replaces the workload of the same UID.
func (r *Registry) Put(w *Workload) { r.change(w.UID, w) }

// Remove forgets a workload.
func (r *Registry) Remove(uid string) { r.change(uid, nil) }

// ByUID returns a workload, or nil.
func (r *Registry) ByUID(uid string) *Workload { return r.state.Load().byUID[uid] }

// ByAddress returns the workload that has the address, or nil.
func (r *Registry) ByAddress(a netip.Addr) *Workload { return r.state.Load().byAddress[a] }

// Changes counts the changes so far.
func (r *Registry) Changes() uint64 { return r.state.Load().changes }

// Peer returns the pod at an address as labels know it: from the agent if it is on
// this node, else from what the snapshot says of the endpoint, which may be nil.
func (r *Registry) Peer(a netip.Addr, info *snapshot.Endpoint) *rpc.Peer {
	if w := r.ByAddress(a); w != nil {
		return w.Peer
	}
	peer := &rpc.Peer{Address: a}
	if info != nil {
		peer.Workload, peer.Namespace = info.Workload, info.Namespace
		peer.App, peer.Version = info.App, info.Revision
	}
	return peer
}

// All returns the workloads, ordered by UID.
func (r *Registry) All() []*Workload {
	byUID := r.state.Load().byUID
	all := make([]*Workload, 0, len(byUID))
	for _, w := range byUID {
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b *Workload) int { return strings.Compare(a.UID, b.UID) })
	return all
}

// change publishes a copy in which uid is w, or is gone.
func (r *Registry) change(uid string, w *Workload) {
	old := r.state.Load()
	next := &state{
		changes:   old.changes + 1,
		byUID:     make(map[string]*Workload, len(old.byUID)+1),
		byAddress: make(map[netip.Addr]*Workload, len(old.byAddress)+1),
	}
	for id, other := range old.byUID {
		if id != uid {
			next.add(other)
		}
	}
	if w != nil {
		next.add(w)
	}
	r.state.Store(next)
}

func (s *state) add(w *Workload) {
	s.byUID[w.UID] = w
	for _, a := range w.Addresses {
		s.byAddress[a] = w
	}
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
