package rpc

import (
	"strings"
	"testing"
)

func TestFlags(t *testing.T) {
	for why, want := range map[Why]string{
		WhyNone: "DI", WhyFault: "DI,FI", WhyTimeout: "UT,DI", WhyNoEndpoint: "UH,DI", WhyUpstreamClosed: "UC,DI",
		WhyNoRoute: "NR,DI", WhyDownstreamGone: "DI,DC", WhyRetryLimit: "DI,URX", WhyNoCluster: "DI,NC",
	} {
		if got := Flags(why, true); got != want {
			t.Errorf("%q: %s, want %s", why, got, want)
		}
	}
	for why := range numWhys {
		plain, held := Flags(why, false), Flags(why, true)
		if plain != why.Flag() || !strings.Contains(","+held+",", ",DI,") || why != WhyNone && !strings.Contains(","+held+",", ","+plain+",") {
			t.Errorf("%q: %s, delayed %s", why, plain, held)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = Flags(WhyFault, true) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
