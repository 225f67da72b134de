package greeting

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/mtls"
	"github.com/dubway/dubway/l7proxy/plan"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/sock"
)

// Seal is the mesh's TLS on a connection to a provider.
type Seal struct {
	Env    *plan.Env
	Source *plan.Source // to whom Break tells who the consumer is
	Ends   *mtls.Ends
	Conn   *sock.Conn
	Logger *slog.Logger
}

// Break ends the TLS, if the provider's port has any and the connection's beginning is
// that. Why says that the connection may not be: it is plaintext where nothing but TLS is
// taken, or its TLS could not be agreed.
func (s *Seal) Break(name rpc.Protocol) (broken bool, why rpc.Why) {
	at := s.Env.View(s.Source.Workload.UID)().Inbound(s.Source.Original, s.Source.Workload.Whole())
	if at == nil || at.Mutual == nil {
		return false, rpc.WhyNone
	}
	if name != rpc.ProtocolTLS {
		if at.Mutual.Strict && !s.excused() {
			s.Ends.Refuse()
			return false, rpc.WhyPlaintext
		}
		return false, rpc.WhyNone
	}
	offers, _ := mtls.Offers(s.Conn)
	if !meant(at.Mutual, offers) {
		return false, rpc.WhyNone // the application's own
	}
	w := s.Source.Workload
	peer, err := s.Ends.Server(context.Background(), s.Conn, w.Account(), mtls.Client{Names: at.Mutual.Names, Offers: offers})
	if err != nil {
		s.Logger.Debug("TLS refused", "workload", w.UID, "from", s.Source.Remote, "error", err)
		var told *mtls.Error
		if why = rpc.WhyUntrusted; errors.As(err, &told) {
			why = told.Why()
		}
		return false, why
	}
	s.Source.Principal, s.Source.Own = peer.Principal, peer.Own
	return true, rpc.WhyNone
}

// meant tells whether TLS that offers some protocols is the mesh's.
func meant(m *mutual.Port, offers []string) bool {
	return len(m.Offers) == 0 || slices.ContainsFunc(m.Offers, func(one string) bool { return slices.Contains(offers, one) })
}

// excused tells whether a consumer in plaintext is let in where others are not: the node's
// own pods, whom its kernel knows, and anybody while the provider is only observed.
func (s *Seal) excused() bool {
	return s.Env.Workloads.ByAddress(s.Source.Remote.Addr()) != nil || s.Env.Modes.Of(s.Source.Workload.UID).Mode() != mode.Enforce
}
