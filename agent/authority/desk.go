package authority

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/dubway/dubway/internal/handoff"
)

// What a proxy may ask for: a node full of accounts at once after a restart, and each of
// them as often as a proxy that is refused comes back; too little to keep istiod busy.
const (
	everyAccount = 20 * time.Second // one more for an account
	burstAccount = 8
	perSecond    = 2 // for all accounts
	burst        = 256
	atOnce       = 8 // asked at once; others wait
	waiting      = 256
)

// Signer signs; *Client does.
type Signer interface {
	Sign(ctx context.Context, q Question) (*Signed, error)
}

var _ Signer = (*Client)(nil)

// Desk answers what the proxy asks. The proxy may have been taken over: it gets
// certificates of the accounts of this node's enrolled pods alone, and no more than limits
// allow. Safe for concurrent use.
type Desk struct {
	signer Signer
	has    func(namespace, account string) bool
	log    *slog.Logger
	counts *prometheus.CounterVec
	turn   chan struct{} // holds as many as are being asked

	mu       sync.Mutex
	all      *rate.Limiter
	accounts map[account]*rate.Limiter
	inside   int
	holds    map[account]time.Time // when certificates expire that the proxy says it has
}

type account struct{ namespace, name string }

// NewDesk makes a Desk. A nil signer is no authority; has tells whether an enrolled pod of
// this node runs as an account.
func NewDesk(signer Signer, has func(namespace, account string) bool, log *slog.Logger) *Desk {
	return &Desk{
		signer: signer, has: has, log: log, turn: make(chan struct{}, atOnce),
		counts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dubway_signatures_total", Help: "Certificates that the proxy asked for, by result."}, []string{"result"}),
		all: rate.NewLimiter(perSecond, burst), accounts: make(map[account]*rate.Limiter),
	}
}

// Counts are the answers, by result.
func (d *Desk) Counts() prometheus.Collector { return d.counts }

// Refuse answers m, a Sign that is not to be asked for; nil for one that is: then it
// wants an Answer. It waits for nobody.
func (d *Desk) Refuse(m *handoff.Message) *handoff.Message {
	var err error
	switch s := m.Sign; {
	case d.signer == nil:
		err = refuse(handoff.SignOff, "the agent knows no certificate authority; fix: name istiod's port 15012 in its --ca-address")
	case !d.has(s.Namespace, s.ServiceAccount):
		err = refuse(handoff.SignDenied, "no enrolled pod of this node runs as "+s.Namespace+"/"+s.ServiceAccount)
	default:
		err = d.enter(account{s.Namespace, s.ServiceAccount})
	}
	if err == nil {
		return nil
	}
	return d.answer(m, nil, err)
}

// Answer answers m, a Sign that was not refused. It waits for the authority, but not for
// ever.
func (d *Desk) Answer(ctx context.Context, m *handoff.Message) *handoff.Message {
	defer d.leave()
	select {
	case <-ctx.Done():
		return d.answer(m, nil, ctx.Err())
	case d.turn <- struct{}{}:
	}
	defer func() { <-d.turn }()
	signed, err := d.signer.Sign(ctx, Question{
		Namespace: m.Sign.Namespace, ServiceAccount: m.Sign.ServiceAccount, Request: m.Sign.Request,
		Validity: time.Duration(m.Sign.Seconds) * time.Second,
	})
	switch {
	case errors.Is(err, ErrRequest):
		return d.answer(m, nil, refuse(handoff.SignDenied, err.Error()))
	case err != nil:
		return d.answer(m, nil, err)
	}
	return d.answer(m, &handoff.SignResult{Chain: signed.Chain, Roots: signed.Roots}, nil)
}

// answer counts an answer and logs one that an operator may want to know.
func (d *Desk) answer(m *handoff.Message, signed *handoff.SignResult, err error) *handoff.Message {
	a := handoff.NewSignResult(m.Seq, signed, err)
	code := a.SignResult.Code
	d.counts.WithLabelValues(cmp.Or(string(code), "ok")).Inc()
	if code != "" && code != handoff.SignOff {
		d.log.Warn("no certificate", "namespace", m.Sign.Namespace, "serviceAccount", m.Sign.ServiceAccount,
			"code", code, "error", a.SignResult.Error)
	}
	return a
}

// enter admits a question by its limits. Every nil error wants an Answer, which leaves.
func (d *Desk) enter(a account) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	own := d.accounts[a]
	if own == nil {
		for other := range d.accounts {
			if !d.has(other.namespace, other.name) {
				delete(d.accounts, other)
			}
		}
		own = rate.NewLimiter(rate.Every(everyAccount), burstAccount)
		d.accounts[a] = own
	}
	switch {
	case d.inside >= waiting:
		return refuse(handoff.SignExhausted, "too many certificates are being asked for")
	case !own.Allow():
		return refuse(handoff.SignExhausted, "too many certificates of this account were asked for")
	case !d.all.Allow():
		return refuse(handoff.SignExhausted, "too many certificates were asked for on this node")
	}
	d.inside++
	return nil
}

func (d *Desk) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside--
}

func refuse(code handoff.SignCode, why string) error {
	return &handoff.SignError{Code: code, Text: why}
}

// Begin forgets what an earlier proxy said.
func (d *Desk) Begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holds = nil
}

// Certified notes that the proxy has a certificate of an account of this node.
func (d *Desk) Certified(c *handoff.Certified) {
	if !d.has(c.Namespace, c.ServiceAccount) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.holds == nil {
		d.holds = make(map[account]time.Time)
	}
	d.holds[account{c.Namespace, c.ServiceAccount}] = time.Unix(c.Expires, 0)
}

// Holds tells whether the proxy has a certificate of an account, by its own word.
func (d *Desk) Holds(namespace, name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Before(d.holds[account{namespace, name}])
}
