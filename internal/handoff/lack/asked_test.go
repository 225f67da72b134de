package lack

import (
	"net/netip"
	"testing"
)

func TestIsAsked(t *testing.T) {
	for to, want := range map[string]bool{
		"192.0.0.8:15001": true, "[100::8]:15001": true,
		"192.0.0.8:15002": false, "192.0.0.9:15001": false, "[100::9]:15001": false, "127.0.0.1:15001": false,
	} {
		if got := IsAsked(netip.MustParseAddrPort(to)); got != want {
			t.Errorf("%s is asked: %t, want %t", to, got, want)
		}
	}
	if got := string(None.Answer("shop/a")); got != "dubway: the way of shop/a\n" {
		t.Errorf("the answer is %q: the other process may be of another release", got)
	}
}
