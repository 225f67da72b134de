package herald

import (
	"errors"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
)

// told counts what it is told.
type told struct {
	failed, connected, draining int
	dead                        chan struct{}
}

func newTold() *told { return &told{dead: make(chan struct{}, 10)} }

func (c *told) Begin()          {}
func (c *told) Failed()         { c.failed++ }
func (c *told) Connected()      { c.connected++ }
func (c *told) Draining()       { c.draining++ }
func (c *told) End(rpc.Outcome) {}
func (c *told) Dead()           { c.dead <- struct{}{} }

func TestWatch(t *testing.T) {
	var h Herald
	h.Unwatch(newTold())
	a, b := newTold(), newTold()
	h.Watch(a)
	h.Watch(a)
	h.Watch(b)
	h.Unwatch(a)
	h.Unwatch(b)
	h.Dialled(nil)
	h.Dialled(errors.New("refused"))
	h.Draining()
	if a.connected != 1 || a.failed != 1 || a.draining != 1 {
		t.Errorf("%+v, want each once", a)
	}
	if b.connected+b.failed+b.draining != 0 {
		t.Errorf("%+v was told after Unwatch", b)
	}
	h.Unwatch(a)
	if len(h.endpoints) != 0 {
		t.Errorf("%d endpoints are kept, want none", len(h.endpoints))
	}
}

func TestBind(t *testing.T) {
	var h Herald
	a, b := newTold(), newTold()
	if h.Wanted(nil) || h.Wanted(a) {
		t.Error("wanted by nobody")
	}
	h.Bind(a)
	if !h.Wanted(nil) || h.Wanted(a) || !h.Wanted(b) || !h.Wanted("no consumer") {
		t.Error("wanted by one, but not by another than that")
	}
	h.Bind(b)
	if !h.Wanted(a) {
		t.Error("wanted by the other one")
	}
	h.Dialled(nil)
	h.Dialled(errors.New("refused"))
	h.Unbind(b)
	h.Dead()
	for _, want := range []struct {
		who *told
		n   int
	}{{a, 2}, {b, 1}} {
		for range want.n {
			select {
			case <-want.who.dead:
			case <-time.After(30 * time.Second):
				t.Fatal("not told that the endpoint is dead")
			}
		}
		if len(want.who.dead) != 0 {
			t.Error("told once too often")
		}
	}
}
