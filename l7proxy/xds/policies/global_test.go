package policies_test

import (
	"fmt"
	"testing"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"

	"github.com/dubway/dubway/l7proxy/xds/policies"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// FuzzGlobal converts any filter for a global rate limit, as JSON. What is accepted can be
// asked about: by whom, how long, and for which share.
func FuzzGlobal(f *testing.F) {
	seeds(f, "envoy.extensions.filters.http.ratelimit.v3.RateLimit", 20)
	f.Fuzz(func(t *testing.T, text []byte) {
		m := new(ratelimitv3.RateLimit)
		a := examined(t, text, m)
		if a == nil {
			return
		}
		var p, again problems.List
		out := policies.Global(&p, "at", "name", a)
		complete(t, p)
		if second := policies.Global(&again, "at", "name", a); *second != *out || fmt.Sprint(p) != fmt.Sprint(again) {
			t.Fatal("it means something else the second time")
		}
		if len(p) > 0 {
			return
		}
		if out.Name != "name" || out.Domain == "" || out.Service.Cluster == "" || out.Timeout <= 0 {
			t.Fatalf("%+v", out)
		}
		for _, share := range []uint32{out.Enabled, out.Enforced, out.Denied} {
			if share > 1_000_000 {
				t.Fatalf("%+v", out)
			}
		}
	})
}
