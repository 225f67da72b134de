package downstream

import (
	"context"
	"errors"
	"slices"

	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/mtls"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// unseal ends the mesh's TLS on a connection to a provider, if its port has any and the
// connection's beginning is that. Why says that it may not be: it is plaintext where
// nothing but TLS is taken, or its TLS could not be agreed.
func unseal(env *Env, in *Accepted, name rpc.Protocol) (ended bool, why rpc.Why) {
	at := env.Snapshot().Inbound(in.Original, in.Workload.Whole())
	if at == nil || at.Mutual == nil {
		return false, rpc.WhyNone
	}
	if name != rpc.ProtocolTLS {
		if at.Mutual.Strict && !excused(env, in) {
			env.Ends.Refuse()
			return false, rpc.WhyPlaintext
		}
		return false, rpc.WhyNone
	}
	offers, _ := mtls.Offers(in.Conn)
	if !meant(at.Mutual, offers) {
		return false, rpc.WhyNone // the application's own
	}
	peer, err := env.Ends.Server(context.Background(), in.Conn, in.Workload.Account(), at.Mutual.Names, offers)
	if err != nil {
		env.Logger.Debug("TLS refused", "workload", in.Workload.UID, "from", in.Remote, "error", err)
		why = rpc.WhyUntrusted
		var told *mtls.Error
		if errors.As(err, &told) {
			why = told.Why()
		}
		return false, why
	}
	in.Principal, in.Own = peer.Principal, peer.Own
	return true, rpc.WhyNone
}

// meant tells whether TLS that offers some protocols is the mesh's.
func meant(m *snapshot.Mutual, offers []string) bool {
	return len(m.Offers) == 0 || slices.ContainsFunc(m.Offers, func(one string) bool { return slices.Contains(offers, one) })
}

// excused tells whether a consumer in plaintext is let in where others are not: the node's
// own pods, whom its kernel knows, and anybody while the provider is only observed.
func excused(env *Env, in *Accepted) bool {
	return env.Workloads.ByAddress(in.Remote.Addr()) != nil || env.Modes.Of(in.Workload.UID).Mode() != mode.Enforce
}
