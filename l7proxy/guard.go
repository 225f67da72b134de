package l7proxy

import (
	"fmt"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

// guarded tells whether a provider of this node holds policies against the node's own
// pods at an address of its own: then they come in by its listener like everybody else,
// behind all that their own side does to a request, and take no short cut. Nor do they
// where the way is to be encrypted: TLS is ended at that listener.
func (p *Proxy) guarded(provider *workload.Workload, key upstream.Key) bool {
	return p.guards(p.sight.Now(provider.UID), provider, key)
}

func (p *Proxy) guards(s *snapshot.Snapshot, provider *workload.Workload, key upstream.Key) bool {
	in := s.Inbound(key.Endpoint, provider.Whole())
	return in != nil && (in.Known.Judges() || key.TLS.On && p.opts.SameNodeEncrypt.asks(in.Mutual))
}

// Encrypt says when the connections between two pods of this node are encrypted, if the
// mesh would encrypt them between two nodes. Their bytes never leave the kernel, and it
// knows both ends.
type Encrypt string

// The choices. The zero value is EncryptStrict.
const (
	EncryptNever  Encrypt = "never"
	EncryptStrict Encrypt = "strict" // to ports that take nothing else
	EncryptAlways Encrypt = "always"
)

// check tells an operator what may be said.
func (e Encrypt) check() error {
	switch e {
	case EncryptNever, EncryptStrict, EncryptAlways, "":
		return nil
	}
	return fmt.Errorf("--same-node-encrypt %q: say never, strict or always", string(e))
}

// asks tells whether the way to a port that ends TLS is encrypted.
func (e Encrypt) asks(m *mutual.Port) bool {
	switch {
	case m == nil, e == EncryptNever:
		return false
	case e == EncryptAlways:
		return true
	}
	return m.Strict
}

// regard makes connections follow the snapshots that workloads see instead of those that
// they saw before: those which took the short cut past a provider that has policies now.
func (p *Proxy) regard(before map[string]*snapshot.Snapshot) {
	p.pool.Rotate(func(k upstream.Key) bool {
		w := p.workloads.ByAddress(k.Endpoint.Addr())
		if k.Inbound || w == nil {
			return false
		}
		old, now := before[w.UID], p.sight.Now(w.UID)
		if old == nil {
			old = before[""]
		}
		return old != nil && len(old.Inbounds)+len(now.Inbounds) > 0 && p.guards(old, w, k) != p.guards(now, w, k)
	})
}
