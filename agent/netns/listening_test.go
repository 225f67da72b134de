package netns_test

import (
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/netns/netnstest"
)

func TestListening(t *testing.T) {
	ns := netnstest.New(t)
	if got, err := ns.Listening(); err != nil || len(got) != 0 {
		t.Errorf("nothing listens: %v, %v", got, err)
	}
	want := []netip.AddrPort{
		netip.MustParseAddrPort("0.0.0.0:7070"), netip.MustParseAddrPort("127.0.0.1:9999"), netip.MustParseAddrPort("[::]:20880"),
	}
	for _, at := range want {
		l, err := ns.Listen(at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	got, err := ns.Listening()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, netip.AddrPort.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("listening: %v, want %v", got, want)
	}
}

// TestHold: an open file of a namespace stands for it, under a path that holds.
func TestHold(t *testing.T) {
	ns := netnstest.New(t)
	file, err := os.Open(ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	held, err := netns.Hold(file)
	if err != nil {
		t.Fatal(err)
	}
	again, err := netns.Open(held.Path())
	if err != nil || again.ID() != ns.ID() || held.ID() != ns.ID() {
		t.Errorf("%s: %v", held.Path(), err)
	} else {
		again.Close()
	}
	held.Close()
	other, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := netns.Hold(other); err == nil || other.Close() == nil {
		t.Errorf("what is no namespace is held, or stays open: %v", err)
	}
}
