package pods

import (
	"context"
	"errors"
	"testing"
)

// spring is a Source that a test speaks for.
type spring struct {
	sets chan Set
	end  error
}

func (s spring) Run(ctx context.Context, publish func(Set)) error {
	for {
		select {
		case <-ctx.Done():
			return s.end
		case set := <-s.sets:
			publish(set)
		}
	}
}

// TestFeed: readers that come early and late hear the last set, and each change.
func TestFeed(t *testing.T) {
	s := spring{make(chan Set), errors.New("dry")}
	f := NewFeed(s)
	ctx, cancel := context.WithCancel(t.Context())
	followed := make(chan error, 1)
	go func() { followed <- f.Follow(ctx) }()
	if set, _ := f.Last(); set != nil {
		t.Errorf("before the first: %v", set)
	}
	read := func() (heard chan int, done chan error) {
		heard, done = make(chan int, 10), make(chan error, 1)
		go func() { done <- f.Run(ctx, func(set Set) { heard <- len(set.Pods) }) }()
		return heard, done
	}
	early, earlyDone := read()
	s.sets <- Set{Pods: []*Pod{{}}}
	if n := <-early; n != 1 {
		t.Errorf("the early reader heard %d pods", n)
	}
	late, lateDone := read()
	if n := <-late; n != 1 {
		t.Errorf("the late reader heard %d pods", n)
	}
	s.sets <- Set{Pods: []*Pod{{}, {}}}
	if a, b := <-early, <-late; a != 2 || b != 2 {
		t.Errorf("readers heard %d and %d pods", a, b)
	}
	cancel()
	if err := errors.Join(<-earlyDone, <-lateDone); err != nil {
		t.Error(err)
	}
	if err := <-followed; err == nil || err.Error() != "dry" {
		t.Errorf("Follow = %v", err)
	}
}
