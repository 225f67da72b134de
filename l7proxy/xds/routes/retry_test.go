package routes

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// istiosWords is what Istio gives to routes without retries.
const istiosWords = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"

// TestIstiosRetries: what Istio gives to routes without retries sends nothing again that may
// have been executed, in no recorded route; what a VirtualService says does.
func TestIstiosRetries(t *testing.T) {
	paths, err := filepath.Glob("../testdata/istiod/*/routes.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	given, own := 0, 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var list []struct {
			VirtualHosts []struct {
				Routes []struct {
					Route struct{ RetryPolicy json.RawMessage }
				}
			}
		}
		if err := json.Unmarshal(text, &list); err != nil {
			t.Fatal(err)
		}
		for _, rc := range list {
			for _, vh := range rc.VirtualHosts {
				for _, r := range vh.Routes {
					if len(r.Route.RetryPolicy) == 0 {
						continue
					}
					m := new(routev3.RetryPolicy)
					if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(withoutTypes(t, r.Route.RetryPolicy), m); err != nil {
						t.Fatal(err)
					}
					var p problems.List
					got := retryPolicy(&p, "retry_policy", m)
					if m.GetRetryOn() == istiosWords && len(m.GetRetriableStatusCodes()) == 0 {
						if given++; got != nil {
							t.Errorf("%s: Istio's own policy is %+v", path, got)
						}
					} else if own++; got == nil || got.On == 0 {
						t.Errorf("%s: %s is %+v", path, m.GetRetryOn(), got)
					}
				}
			}
		}
	}
	if given == 0 || own == 0 {
		t.Errorf("%d of Istio's policies and %d others were recorded", given, own)
	}
}

// withoutTypes leaves out the predicates, whose types this test was not built with.
func withoutTypes(t *testing.T, policy json.RawMessage) []byte {
	t.Helper()
	var tree map[string]any
	if err := json.Unmarshal(policy, &tree); err != nil {
		t.Fatal(err)
	}
	delete(tree, "retryHostPredicate")
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestOlderIstiosRetries: older releases list 503 in the policy that they give.
func TestOlderIstiosRetries(t *testing.T) {
	for _, c := range []struct {
		on    string
		codes []uint32
		want  snapshot.RetryOn
	}{
		{istiosWords, []uint32{503}, 0},
		{istiosWords + ",reset", []uint32{503}, snapshot.RetryReset | snapshot.RetryTimeout | snapshot.RetryUnavailable},
		{istiosWords, []uint32{502}, snapshot.RetryReset},
		{"retriable-status-codes", []uint32{503}, snapshot.RetryReset | snapshot.RetryUnavailable},
	} {
		var p problems.List
		got := retryPolicy(&p, "retry_policy", &routev3.RetryPolicy{RetryOn: c.on, RetriableStatusCodes: c.codes, NumRetries: wrapperspb.UInt32(2)})
		if len(p) > 0 || (got == nil) != (c.want == 0) || got != nil && got.On != c.want {
			t.Errorf("%s %v: %+v, want %v; %v", c.on, c.codes, got, c.want, p)
		}
	}
}
