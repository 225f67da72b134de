package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/dubway/dubway/cni/wire"
)

// retryInterval is between attempts to reach an agent.
const retryInterval = 100 * time.Millisecond

// asker asks the agent once or, within its patience, until one is there.
type asker struct {
	socket   string
	timeout  time.Duration // for everything
	patience time.Duration // for an agent to be there; 0 for one attempt
	log      func(format string, args ...any)
}

// refusal is the agent's own answer: to ask again at once would change nothing.
type refusal struct{ text string }

// Error returns the agent's reason.
func (r *refusal) Error() string { return "the agent says: " + r.text }

// ask asks until there is an answer. An agent that went away in the middle is asked
// again, whoever it is then: every verb may be said twice.
func (a *asker) ask(ctx context.Context, r *wire.Request, namespace *os.File) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	var last error
	for {
		if ctx.Err() != nil && last != nil {
			return a.explain(last, time.Since(start)) // which says more than that the time is over
		}
		err := a.once(ctx, r, namespace)
		switch {
		case err == nil || errors.As(err, new(*refusal)) || errors.Is(err, wire.ErrPeer):
			return err
		case ctx.Err() != nil || time.Since(start)+retryInterval >= a.patience:
			return a.explain(err, time.Since(start))
		case last == nil:
			a.log("waits for the agent: %v", err)
		}
		last = err
		select {
		case <-ctx.Done():
		case <-time.After(retryInterval):
		}
	}
}

// once asks the agent that is there now.
func (a *asker) once(ctx context.Context, r *wire.Request, namespace *os.File) error {
	conn, err := wire.Dial(ctx, a.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	r.Version, r.TimeoutMillis = wire.Version, max(1, time.Until(deadline).Milliseconds())
	answer, err := conn.Ask(ctx, r, namespace)
	if err != nil {
		return err
	}
	if answer.Error != "" {
		return &refusal{answer.Error}
	}
	return nil
}

// explain says which of the ways to have no answer it was.
func (a *asker) explain(err error, waited time.Duration) error {
	waited = waited.Round(100 * time.Millisecond)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no agent serves %s (waited %s)", a.socket, waited)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the agent at %s did not answer within %s", a.socket, waited)
	default:
		return fmt.Errorf("no answer of the agent at %s (waited %s): %w", a.socket, waited, err)
	}
}
