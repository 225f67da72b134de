// Package backoff remembers which endpoints are better left alone because a connect
// failed, or because the provider said that it is about to stop. It is asked on the way
// of every request, which takes no lock.
package backoff

import (
	"sync"
	"sync/atomic"
	"time"
)

// How long an endpoint is avoided after a failed connect: the first time, and
// at most.
const (
	first   = time.Second
	longest = 30 * time.Second
)

// DrainTime is how long an endpoint is avoided that is about to stop: a Java
// provider closes its connections 10.2 s after it said so, and ends at 13 s.
const DrainTime = 15 * time.Second

// Backoff is the memory of one address. Its zero value knows nothing. Safe for
// concurrent use.
type Backoff struct {
	avoided  atomic.Bool
	failures atomic.Int32

	mu     sync.Mutex
	timer  *time.Timer // ends the back-off; nil when there is none
	drains *time.Timer // ends Drain; nil when it does not
}

// Avoided tells whether the endpoint is to be left alone while there is another.
func (b *Backoff) Avoided() bool { return b.avoided.Load() }

// Failures is the number of failed connects since the last success.
func (b *Backoff) Failures() int { return int(b.failures.Load()) }

// Failed tells that a connect failed: for a second the endpoint is avoided, and twice as
// long after each further failure, up to 30. Failures while it is avoided already count
// for nothing: they are of connects that began before.
func (b *Backoff) Failed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timer != nil {
		return
	}
	wait := longest
	if n := b.failures.Add(1) - 1; n < 5 {
		wait = first << n
	}
	b.avoided.Store(true)
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() { b.expire(&b.timer, &timer) })
	b.timer = timer
}

// Drain tells that the provider is about to stop. A connect that succeeds meanwhile
// changes nothing: such a provider still listens.
func (b *Backoff) Drain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.avoided.Store(true)
	if b.drains != nil {
		b.drains.Stop()
	}
	var timer *time.Timer
	timer = time.AfterFunc(DrainTime, func() { b.expire(&b.drains, &timer) })
	b.drains = timer
}

// expire ends a back-off or a Drain. The timer of an earlier one may come
// late, so whose it is counts.
func (b *Backoff) expire(of, timer **time.Timer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if *of == *timer {
		*of = nil
		b.avoided.Store(b.timer != nil || b.drains != nil)
	}
}

// Connected tells that a connect succeeded: past failures are forgotten.
func (b *Backoff) Connected() {
	if b.failures.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures.Store(0)
	b.avoided.Store(b.drains != nil)
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
}
