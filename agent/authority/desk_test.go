package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/dubway/dubway/internal/handoff"
)

// signs is a Signer that counts, and waits where it is told to.
type signs struct {
	err   error
	gate  chan struct{} // nil: open
	now   atomic.Int32
	most  atomic.Int32
	count atomic.Int32
}

func (s *signs) Sign(ctx context.Context, q Question) (*Signed, error) {
	s.count.Add(1)
	for n := s.now.Add(1); n > s.most.Load(); n = s.now.Load() {
		s.most.Store(n)
	}
	defer s.now.Add(-1)
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s.err != nil {
		return nil, s.err
	}
	return &Signed{Chain: [][]byte{q.Request}, Roots: [][]byte{{2}}}, nil
}

func here(namespace, account string) bool { return namespace == "shop" && account != "gone" }

func sign(account string) *handoff.Message {
	return &handoff.Message{Kind: handoff.KindSign, Seq: 7, Sign: &handoff.Sign{
		Namespace: "shop", ServiceAccount: account, Request: []byte{1}, Seconds: 60}}
}

// ask is what a session does with a message.
func (d *Desk) ask(ctx context.Context, m *handoff.Message) *handoff.SignResult {
	if no := d.Refuse(m); no != nil {
		return no.SignResult
	}
	return d.Answer(ctx, m).SignResult
}

func TestDesk(t *testing.T) {
	foreign := sign("consumer")
	foreign.Sign.Namespace = "bank"
	for name, c := range map[string]struct {
		signer Signer
		m      *handoff.Message
		want   handoff.SignCode
	}{
		"signed":             {&signs{}, sign("consumer"), ""},
		"no authority":       {nil, sign("consumer"), handoff.SignOff},
		"an account of none": {&signs{}, sign("gone"), handoff.SignDenied},
		"another namespace":  {&signs{}, foreign, handoff.SignDenied},
		"a bad request":      {&signs{err: fmt.Errorf("%w: no", ErrRequest)}, sign("consumer"), handoff.SignDenied},
		"no answer":          {&signs{err: errors.New("no route")}, sign("consumer"), handoff.SignFailed},
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDesk(c.signer, here, slog.New(slog.DiscardHandler))
			r := d.ask(t.Context(), c.m)
			if r.Code != c.want || (c.want == "") != (len(r.Chain) == 1 && len(r.Roots) == 1 && r.Error == "") {
				t.Errorf("%+v", r)
			}
			label := string(c.want)
			if label == "" {
				label = "ok"
			}
			var counted dto.Metric
			if err := d.counts.WithLabelValues(label).Write(&counted); err != nil || counted.GetCounter().GetValue() != 1 {
				t.Errorf("%s was counted as %v, %v", label, &counted, err)
			}
			if s, ok := c.signer.(*signs); ok && c.want == handoff.SignDenied && s.err == nil && s.count.Load() != 0 {
				t.Error("the authority was asked")
			}
		})
	}
}

// TestFlood: a proxy that asks without end gets its burst and no more, and one account's
// questions do not cost another's.
func TestFlood(t *testing.T) {
	s := &signs{}
	d := NewDesk(s, here, slog.New(slog.DiscardHandler))
	for range 1000 {
		d.ask(t.Context(), sign("greedy"))
	}
	if n := s.count.Load(); n < burstAccount || n > burstAccount+10 {
		t.Errorf("one account: asked %d times", n)
	}
	if r := d.ask(t.Context(), sign("modest")); r.Code != "" {
		t.Errorf("another account: %+v", r)
	}
	for i := range 2000 {
		d.ask(t.Context(), sign(fmt.Sprint("account-", i)))
	}
	if n := s.count.Load(); n < burst || n > burst+100 {
		t.Errorf("all accounts: asked %d times", n)
	}
}

// TestWaits: a few are asked at once, others wait, more are refused; the end of a session
// ends them all.
func TestWaits(t *testing.T) {
	s := &signs{gate: make(chan struct{})}
	d := NewDesk(s, here, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	var failed atomic.Int32
	d.all.SetBurst(10 * waiting)
	d.all.SetLimit(1e9)
	for i := range waiting {
		m := sign(fmt.Sprint("account-", i))
		if no := d.Refuse(m); no != nil {
			t.Fatalf("%d: %+v", i, no.SignResult)
		}
		all.Go(func() {
			if r := d.Answer(ctx, m).SignResult; r.Code == handoff.SignFailed {
				failed.Add(1)
			}
		})
	}
	if no := d.Refuse(sign("late")); no == nil || no.SignResult.Code != handoff.SignExhausted {
		t.Errorf("%+v", no)
	}
	s.gate <- struct{}{} // one ends, another begins
	cancel()
	all.Wait()
	if n := s.most.Load(); n > atOnce {
		t.Errorf("%d were asked at once", n)
	}
	if n := failed.Load(); n < waiting-2 {
		t.Errorf("%d of %d ended with the session", n, waiting)
	}
	if no := d.Refuse(sign("late")); no != nil {
		t.Errorf("afterwards: %+v", no.SignResult)
	}
}

// TestForgets: an account whose pods have gone leaves nothing behind.
func TestForgets(t *testing.T) {
	known := map[string]bool{"a": true, "b": true}
	d := NewDesk(&signs{}, func(_, name string) bool { return known[name] }, slog.New(slog.DiscardHandler))
	d.ask(t.Context(), sign("a"))
	delete(known, "a")
	d.ask(t.Context(), sign("b"))
	if len(d.accounts) != 1 {
		t.Errorf("%d accounts are kept", len(d.accounts))
	}
}

// TestCertified: what a proxy says to hold counts for accounts of this node, until it
// expires or another proxy comes.
func TestCertified(t *testing.T) {
	d := NewDesk(nil, func(namespace, account string) bool { return namespace == "shop" && account == "consumer" }, slog.New(slog.DiscardHandler))
	say := func(namespace, account string, lives time.Duration) {
		d.Certified(&handoff.Certified{Namespace: namespace, ServiceAccount: account, Expires: time.Now().Add(lives).Unix()})
	}
	say("shop", "consumer", time.Hour)
	say("shop", "stranger", time.Hour)
	if !d.Holds("shop", "consumer") || d.Holds("shop", "stranger") || d.Holds("bank", "consumer") {
		t.Errorf("held: %v", d.holds)
	}
	d.Begin()
	if d.Holds("shop", "consumer") {
		t.Error("another proxy holds what the one before did")
	}
	say("shop", "consumer", -time.Hour)
	if d.Holds("shop", "consumer") {
		t.Error("an expired certificate is held")
	}
}
