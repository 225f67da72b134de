package destinations_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/destinations"
)

func TestDestinations(t *testing.T) {
	at := func(prefix string, port uint16) *snapshot.Listener {
		return &snapshot.Listener{Name: "l", Prefix: netip.MustParsePrefix(prefix), Port: port}
	}
	routed := at("10.0.0.2/32", 2)
	routed.RouteName = "table"
	s := (&snapshot.Snapshot{Listeners: []*snapshot.Listener{
		at("fd00::1/128", 1), at("10.0.0.2/32", 2), routed, at("10.0.0.2/32", 1), at("10.0.0.1/32", 9), at("10.0.0.2/32", 2),
		at("127.0.0.1/32", 1), at("127.0.0.0/8", 0), at("::1/128", 1),
		at("0.0.0.0/0", 20880), at("::/0", 0), at("10.0.0.0/8", 1),
	}}).Seal()
	want := "[{0.0.0.0/0 20880 false} {10.0.0.0/8 1 false} {10.0.0.1/32 9 false} {10.0.0.2/32 1 false} " +
		"{10.0.0.2/32 2 true} {::/0 0 false} {fd00::1/128 1 false}]"
	for range 2 {
		if got := fmt.Sprint(destinations.Of(s)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := destinations.Of((&snapshot.Snapshot{}).Seal()); len(got) != 0 {
		t.Errorf("an empty snapshot has destinations %v", got)
	}
}
