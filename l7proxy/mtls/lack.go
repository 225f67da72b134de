package mtls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dubway/dubway/l7proxy/identity"
)

const (
	// pendingLimit is how long a connection waits for an account's first certificate: what
	// comes while the proxy has just started is not to fail for the moment that it takes.
	pendingLimit = 3 * time.Second
	// lackKept is how long it is told that an account lacked a certificate.
	lackKept = 10 * time.Minute
)

// lack is an account that connections were refused for want of a certificate of.
type lack struct {
	refused [2]uint64 // as of Stats
	last    time.Time
	err     error
}

// bundle returns the bundle of an account. Its first one it waits for, if that is asked for.
func (e *Ends) bundle(ctx context.Context, a identity.Account) (*identity.Bundle, error) {
	var timeout <-chan time.Time
	for {
		changed := e.source.Changed(a)
		b, err := e.source.Bundle(a)
		if changed == nil || !errors.Is(err, identity.ErrPending) {
			return b, err
		}
		if timeout == nil {
			timeout = time.After(pendingLimit)
		}
		select {
		case <-changed:
		case <-timeout:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}

// lacks notes that a connection was refused. The log has it once, until the account's
// connections are taken again.
func (e *Ends) lacks(a identity.Account, side int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forget()
	one := e.lacking[a]
	if one == nil {
		one = new(lack)
		e.lacking[a] = one
		e.log.Warn("mutual TLS refused: no certificate", "namespace", a.Namespace, "serviceAccount", a.Name, "error", err)
	}
	one.refused[side]++
	one.last, one.err = time.Now(), err
}

// has notes that an account has a certificate.
func (e *Ends) has(a identity.Account) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lacking[a] != nil {
		delete(e.lacking, a)
		e.log.Info("mutual TLS again", "namespace", a.Namespace, "serviceAccount", a.Name)
	}
}

// forget drops what is long ago, so that accounts that have gone are not kept.
func (e *Ends) forget() {
	for a, one := range e.lacking {
		if time.Since(one.last) > lackKept {
			delete(e.lacking, a)
		}
	}
}

// Problems are sentences about accounts of which connections were refused for want of a
// certificate, in the last ten minutes and with none taken since.
func (e *Ends) Problems() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forget()
	var list []string
	for a, one := range e.lacking {
		list = append(list, fmt.Sprintf("mutual TLS of %s/%s is refused, "+
			"%d connections to providers and %d from consumers, the last at %s: %v", a.Namespace, a.Name,
			one.refused[ClientSide], one.refused[ServerSide], one.last.Format(time.RFC3339), one.err))
	}
	slices.SortFunc(list, strings.Compare)
	return list
}
