package enroll

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Prober asks whether the way of a workload's calls works; package reach has it.
type Prober interface {
	// Reach returns nil if it does, and the workload's own configuration is in force behind
	// it; else why not, after some seconds at most. What is no Refusal is of ClassUnreached.
	Reach(ctx context.Context, w *Workload) error
}

const (
	askers   = 8                      // questions at a time
	askFirst = 100 * time.Millisecond // from the first question that fails to the next; doubled up to Interval
)

// way is what is known of the way of a steered pod's calls. Guarded by Enroller.mu.
type way struct {
	ok      bool      // it answered, and has not failed for longer than the grace since
	err     error     // of the last question
	asking  bool      // a question is on its way
	again   bool      // it may be answered by what was before: another is to follow
	due     time.Time // the next question; the zero time is at once
	failing time.Time // since then no question was answered; zero: the last one was
	pause   time.Duration
}

// errUnasked is the state of a pod whose first question is not answered yet.
var errUnasked = errors.New("it is being asked")

// wayError tells why a steered pod is not enrolled yet, or not any more. mu is held.
func (e *Enroller) wayError(uid string) error {
	y := e.ways[uid]
	if e.opts.Prober == nil || y != nil && y.ok {
		return nil
	}
	err := errUnasked
	if y != nil && y.err != nil {
		err = y.err
	}
	if known, ok := errors.AsType[*Refusal](err); ok {
		return known
	}
	return &Refusal{Class: ClassUnreached, Err: fmt.Errorf("its data path does not answer: %w", err)}
}

// AskAgain has every pod's way asked at once: a proxy came or went.
func (e *Enroller) AskAgain() { e.askSoon(true) }

// AskMissing has the ways that do not answer, or lack something, asked at once: a table is
// in force that may be what they lack.
func (e *Enroller) AskMissing() { e.askSoon(false) }

func (e *Enroller) askSoon(all bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, y := range e.ways {
		if all || y.asking || y.err != nil {
			y.due, y.pause, y.again = time.Time{}, 0, y.asking
		}
	}
	e.signal()
}

// Await returns when a pod is enrolled. An error says why it was not when ctx ended.
func (e *Enroller) Await(ctx context.Context, uid string) error {
	for {
		_, changed := e.Workloads()
		reason := "it is not known yet"
		for _, s := range e.Status() {
			if s.Pod.UID != uid {
				continue
			}
			if s.Enrolled {
				return nil
			}
			reason = s.Reason
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("await pod %s: %w: %s", uid, ctx.Err(), reason)
		case <-changed:
		}
	}
}

// askAll asks what is due until ctx ends, and returns when the last question has.
func (e *Enroller) askAll(ctx context.Context) {
	var questions sync.WaitGroup
	defer questions.Wait()
	free := make(chan struct{}, askers)
	for {
		_, changed := e.Workloads()
		due, next := e.due()
		for _, q := range due {
			select {
			case <-ctx.Done():
				return
			case free <- struct{}{}:
			}
			questions.Go(func() {
				e.answered(ctx, q, e.opts.Prober.Reach(ctx, q.workload))
				<-free
			})
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// question is one that is to be asked.
type question struct {
	uid      string
	workload *Workload
	way      *way
}

// due returns the questions that are to be asked now, and how long it is to the next.
func (e *Enroller) due() (list []question, next time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	next = e.opts.Interval
	for uid, s := range e.states {
		if s.workload == nil {
			continue
		}
		y := e.ways[uid]
		if y == nil {
			y = &way{}
			e.ways[uid] = y
		}
		switch left := y.due.Sub(now); {
		case y.asking:
		case left > 0:
			next = min(next, left)
		default:
			y.asking = true
			list = append(list, question{uid, s.workload, y})
		}
	}
	return list, next
}

// answered notes how a question ended.
func (e *Enroller) answered(ctx context.Context, q question, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	y, now := q.way, time.Now()
	y.asking = false
	if e.ways[q.uid] != y || ctx.Err() != nil {
		return // it left, or was enrolled anew
	}
	was := e.wayError(q.uid)
	y.err = err
	if err == nil {
		y.ok, y.failing, y.pause, y.due = true, time.Time{}, 0, now.Add(e.opts.Interval)
	} else {
		e.failed(y, now)
		if y.again {
			y.due, y.pause = time.Time{}, 0
		}
	}
	y.again = false
	switch is := e.wayError(q.uid); {
	case is == nil && was != nil:
		e.opts.Log.Info("workload enrolled: its data path answers", "uid", q.uid)
	case is != nil && (was == nil || was.Error() != is.Error()):
		e.opts.Log.Warn("workload not enrolled", "uid", q.uid, "reason", is)
	}
	e.signal()
}

// failed notes a question that was not answered. mu is held.
func (e *Enroller) failed(y *way, now time.Time) {
	if y.failing.IsZero() {
		y.failing = now
	}
	if now.Sub(y.failing) >= e.opts.Grace {
		y.ok = false
	}
	y.pause = min(max(2*y.pause, askFirst), e.opts.Interval)
	if y.due = now.Add(y.pause); y.ok { // no later than the grace ends
		if end := y.failing.Add(e.opts.Grace); end.Before(y.due) {
			y.due = end
		}
	}
}
