package leaving

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"
)

// orders are Orders that a test gives.
type orders struct {
	mu       sync.Mutex
	leave    chan bool
	reports  []bool
	refusals int // reports that fail
}

func (o *orders) Watch(ctx context.Context, say func(leave bool)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case leave := <-o.leave:
			say(leave)
		}
	}
}

func (o *orders) Report(_ context.Context, left bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refusals > 0 {
		o.refusals--
		return errors.New("no API server")
	}
	o.reports = append(o.reports, left)
	return nil
}

// TestLeaveOrder: the steps come in their order, each until it is done, then the pods, and
// the report last.
func TestLeaveOrder(t *testing.T) {
	var did []string
	failures := 1
	step := func(name string) Step {
		return Step{name, func(context.Context) error {
			if did = append(did, name); name == "cni" && failures > 0 {
				failures--
				return errors.New("file is busy")
			}
			return nil
		}}
	}
	o := &orders{refusals: 1}
	l := Plan{Orders: o, Steps: []Step{step("cni"), step("labels")}}
	withdraw := func() error { did = append(did, "withdraw"); return nil }
	if err := l.Leave(t.Context(), withdraw, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if want := []string{"cni", "cni", "labels", "withdraw"}; !slices.Equal(did, want) || !slices.Equal(o.reports, []bool{true}) {
		t.Errorf("done: %v, reported: %v", did, o.reports)
	}

	ctx, cancel := context.WithCancel(t.Context())
	l.Steps = []Step{{"taken back", func(context.Context) error { cancel(); return errors.New("too late") }}}
	if err := l.Leave(ctx, withdraw, slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) || len(o.reports) != 1 {
		t.Errorf("an order that is taken back: %v, reported: %v", err, o.reports)
	}
}

// TestOrder: what holds is known after the first word, and who waits for a change hears
// of it; an order that stands ends what needs the other.
func TestOrder(t *testing.T) {
	o, said := NewOrder(), &orders{leave: make(chan bool)}
	go func() { said.leave <- true }()
	o.Follow(t.Context(), said, slog.New(slog.DiscardHandler))
	leave, changed := o.Now()
	if !leave {
		t.Error("the first word is not known")
	}
	ended, cancel := o.Until(t.Context(), false)
	defer cancel()
	lasting, cancel := o.Until(t.Context(), true)
	defer cancel()
	wait := func(what string, c <-chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(30 * time.Second):
			t.Fatal(what)
		}
	}
	wait("what needs that there is no order goes on", ended.Done())
	if lasting.Err() != nil {
		t.Error("what needs the order has ended")
	}
	said.leave <- true // again: no change
	said.leave <- false
	wait("nobody hears of the change", changed)
	wait("what needs the order goes on", lasting.Done())
	if leave, _ := o.Now(); leave {
		t.Error("the order stands")
	}
}
