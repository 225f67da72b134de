package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/pause"
)

const (
	// validity is asked for, as sidecars do. Half of it is left when a certificate is
	// renewed: an authority may be away for so long.
	validity = 24 * time.Hour
	// askTime is how long the agent may take: it tries a few times.
	askTime = time.Minute
	// soonest and latest are how long a failed question waits before it is asked again, at
	// first and at most. Half of each wait is chance.
	soonest = time.Second
	latest  = time.Minute
)

// Errors of a Source's Bundle that a caller may tell from others.
var (
	// ErrPending is returned while an account's first certificate is being asked for.
	ErrPending = errors.New("its certificate is being asked for")
	// ErrOff is returned while the agent knows no authority.
	ErrOff = errors.New("the agent knows no certificate authority; fix: name istiod's port 15012 in its --ca-address")
)

// Signer has a request signed for an account of this node.
type Signer interface {
	Sign(ctx context.Context, s *handoff.Sign) (*handoff.SignResult, error)
}

var _ Signer = (*handoff.Client)(nil)

// Holder is the Source for the accounts of the pods that it is told of: each has a bundle
// that is renewed at half of its life, is kept until it expires where that fails, and is
// forgotten with the account's last pod. Safe for concurrent use.
type Holder struct {
	signer  Signer
	log     *slog.Logger
	ctx     context.Context //nolint:containedctx // the Holder's life: what asks goes on after Put
	cancel  context.CancelFunc
	running sync.WaitGroup
	renewed atomic.Uint64
	failed  atomic.Uint64
	domain  atomic.Pointer[string] // of TrustDomain; nil: no bundle came yet
	told    func(a Account, expires time.Time)

	mu   sync.RWMutex
	pods map[string]Account // by UID
	held map[Account]*holding
}

// holding is an account with what is held for it.
type holding struct {
	pods    int
	stop    context.CancelFunc
	changed chan struct{} // closed when bundle is another one, or there will be none

	bundle *Bundle // nil: none yet
	since  time.Time
	err    error // of the last question, nil if it was answered
}

var _ Source = (*Holder)(nil)

// NewHolder makes a Holder without accounts. Close ends it.
func NewHolder(signer Signer, log *slog.Logger) *Holder {
	h := &Holder{signer: signer, log: log, pods: make(map[string]Account), held: make(map[Account]*holding)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// Tell has f called with each bundle that comes from now on, never two at once for one
// account. It must be called before Put.
func (h *Holder) Tell(f func(a Account, expires time.Time)) { h.told = f }

// Close ends all questions. What is held stays.
func (h *Holder) Close() {
	h.cancel()
	h.running.Wait()
}

// Put tells of a pod and the account that it runs as; one without a name has no identity.
// It waits for nothing.
func (h *Holder) Put(uid string, a Account) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if was, known := h.pods[uid]; known && was == a {
		return
	}
	h.remove(uid)
	if a.Namespace == "" || a.Name == "" || h.ctx.Err() != nil {
		return
	}
	h.pods[uid] = a
	one := h.held[a]
	if one == nil {
		ctx, stop := context.WithCancel(h.ctx)
		one = &holding{stop: stop, changed: make(chan struct{}), err: ErrPending}
		h.held[a] = one
		h.running.Go(func() { h.follow(ctx, a, one) })
	}
	one.pods++
}

// Remove tells that a pod has gone.
func (h *Holder) Remove(uid string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(uid)
}

func (h *Holder) remove(uid string) {
	a, known := h.pods[uid]
	if !known {
		return
	}
	delete(h.pods, uid)
	one := h.held[a]
	if one.pods--; one.pods == 0 {
		one.stop()
		close(one.changed)
		delete(h.held, a)
	}
}

// Account returns the account that a pod runs as; the zero one if it has no identity.
func (h *Holder) Account(uid string) Account {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.pods[uid]
}

// Bundle is part of Source.
func (h *Holder) Bundle(a Account) (*Bundle, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	one := h.held[a]
	switch {
	case a.Name == "":
		return nil, errors.New("no identity of a pod whose workload names no service account")
	case one == nil:
		return nil, fmt.Errorf("no identity of %s/%s: no pod of this node runs as it", a.Namespace, a.Name)
	case one.bundle == nil:
		return nil, fmt.Errorf("no identity of %s/%s: %w", a.Namespace, a.Name, one.err)
	case !time.Now().Before(one.bundle.Expires):
		err := fmt.Errorf("its certificate expired at %s", one.bundle.Expires.Format(time.RFC3339))
		return nil, fmt.Errorf("no identity of %s/%s: %w", a.Namespace, a.Name, errors.Join(err, one.err))
	}
	return one.bundle, nil
}

// TrustDomain is part of Source.
func (h *Holder) TrustDomain() string {
	if domain := h.domain.Load(); domain != nil {
		return *domain
	}
	return DefaultTrustDomain
}

// Changed is part of Source.
func (h *Holder) Changed(a Account) <-chan struct{} {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if one := h.held[a]; one != nil {
		return one.changed
	}
	return nil
}

// Status is how things are with an account.
type Status struct {
	Account Account
	Pods    int       // of this node that run as it
	Bundle  *Bundle   // nil: none yet
	Renewed time.Time // when Bundle came
	Err     error     // why the last question was not answered; nil if it was
}

// Off tells that there is no identity and will be none: the agent knows no authority.
func (s *Status) Off() bool { return s.Bundle == nil && errors.Is(s.Err, ErrOff) }

// Status tells of all accounts, in order.
func (h *Holder) Status() []Status {
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := make([]Status, 0, len(h.held))
	for _, a := range slices.SortedFunc(maps.Keys(h.held), compare) {
		one := h.held[a]
		all = append(all, Status{Account: a, Pods: one.pods, Bundle: one.bundle, Renewed: one.since, Err: one.err})
	}
	return all
}

// Renewals returns how many questions were answered, and how many failed.
func (h *Holder) Renewals() (answered, failed uint64) { return h.renewed.Load(), h.failed.Load() }

func compare(a, b Account) int {
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

// follow keeps an account's bundle until ctx ends.
func (h *Holder) follow(ctx context.Context, a Account, one *holding) {
	for failures := 0; ; {
		limit, cancel := context.WithTimeout(ctx, askTime)
		bundle, err := ask(limit, h.signer, a)
		cancel()
		if ctx.Err() != nil {
			return
		}
		h.note(a, one, bundle, err)
		if err == nil && h.told != nil {
			h.told(a, bundle.Expires)
		}
		var wait time.Duration
		switch {
		case err == nil:
			failures = 0
			lives := time.Until(bundle.Expires)
			wait = lives/2 - rand.N(lives/10+1)
		case errors.Is(err, ErrOff):
			wait = latest
		default:
			wait = pause.After(failures, soonest, latest)
			failures++
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// note makes an answer hold. The log has each reason once.
func (h *Holder) note(a Account, one *holding, bundle *Bundle, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[a] != one {
		return // its last pod has gone meanwhile
	}
	before := one.err
	one.err = err
	if err == nil {
		h.renewed.Add(1)
		one.bundle, one.since = bundle, time.Now()
		if h.TrustDomain() != bundle.ID.TrustDomain {
			h.domain.Store(&bundle.ID.TrustDomain)
		}
		close(one.changed)
		one.changed = make(chan struct{})
		h.log.Info("certificate", "identity", bundle.ID.String(), "expires", bundle.Expires)
		return
	}
	if errors.Is(err, ErrOff) {
		return
	}
	h.failed.Add(1)
	if before == nil || before.Error() != err.Error() {
		h.log.Warn("no certificate", "namespace", a.Namespace, "serviceAccount", a.Name, "error", err)
	}
}
