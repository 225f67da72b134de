package listener

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/downstream"
	"github.com/dubway/dubway/l7proxy/overload"
	"github.com/dubway/dubway/l7proxy/quota"
	"github.com/dubway/dubway/l7proxy/workload"
)

// TestTight: while there is no memory no connection is taken, and each is counted.
func TestTight(t *testing.T) {
	k := newSocket(t)
	s := newSet(Options{
		Serve: func(*downstream.Accepted, func(downstream.Live)) { t.Error("it was served") },
		Tight: func() bool { return true },
	})
	defer s.Shut()
	put(t, s, handoff.Inbound, k)
	c, err := net.Dial("tcp", k.Addr().String())
	if err == nil { // or the reset came before connect returned
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
	eventually(t, "it is counted", func() bool { return s.Stats().Tight.Load() == 1 })
}

// TestHeaviest: the pod that holds most, and the next if that is shed already.
func TestHeaviest(t *testing.T) {
	s := NewSet(Options{Quotas: quota.NewNode(100, 100, 1<<20)})
	if s.Heaviest(nil) != nil {
		t.Error("a pod where there is none")
	}
	for name, bytes := range map[string]int{"light": 10, "heavy": 100_000, "idle": 0} {
		w := workload.New(handoff.Workload{UID: name, Name: name, Namespace: "shop"})
		if err := s.Put(w, nil); err != nil {
			t.Fatal(err)
		}
		s.pods[name].quota.Hold(bytes)
	}
	var shed []overload.Tenant
	for _, want := range []string{"shop/heavy", "shop/light", "shop/idle"} {
		got := s.Heaviest(shed)
		if got == nil || got.Name() != want {
			t.Fatalf("%v is heaviest, want %s", got, want)
		}
		got.Shed(true)
		shed = append(shed, got)
	}
	if s.Heaviest(shed) != nil || !s.pods["light"].quota.Shedding() {
		t.Error("all are shed, and one is left")
	}
	s.pods["heavy"].quota.Shed(false)
	if s.pods["heavy"].quota.Shedding() {
		t.Error("a pod that is taken again is shed")
	}
}
