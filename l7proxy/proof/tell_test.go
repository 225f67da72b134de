package proof

import (
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/testnet/catest"
	"github.com/dubway/dubway/l7proxy/identity"
)

var batch = identity.Account{Namespace: "shop", Name: "batch"}

// listener signs, and hears of certificates.
type listener struct {
	signer

	hearing sync.Mutex
	away    error
	heard   []handoff.Certified
}

var _ teller = (*listener)(nil)

func (l *listener) Certified(c *handoff.Certified) error {
	l.hearing.Lock()
	defer l.hearing.Unlock()
	if l.away == nil {
		l.heard = append(l.heard, *c)
	}
	return l.away
}

func (l *listener) all() []handoff.Certified {
	l.hearing.Lock()
	defer l.hearing.Unlock()
	return slices.Clone(l.heard)
}

// TestTell: the agent hears of each certificate as it comes, and one that was away of all
// that are held.
func TestTell(t *testing.T) {
	l := &listener{signer: signer{ca: catest.New(t, false)}, away: handoff.ErrNotConnected}
	p, err := New(l, Secured{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	p.Put("uid", consumer)
	until(t, "there is a certificate", func() bool { _, err := p.Bundle(consumer); return err == nil })
	l.hearing.Lock()
	l.away = nil
	l.hearing.Unlock()
	p.TellAll()
	until(t, "the agent hears of it", func() bool { return len(l.all()) >= 1 })
	got := l.all()[0]
	if got.Namespace != "shop" || got.ServiceAccount != "consumer" || got.Expires <= time.Now().Unix() {
		t.Errorf("heard: %+v", got)
	}
	p.Put("other", batch)
	until(t, "the agent hears of the next", func() bool {
		return slices.ContainsFunc(l.all(), func(c handoff.Certified) bool { return c.ServiceAccount == batch.Name })
	})
}
