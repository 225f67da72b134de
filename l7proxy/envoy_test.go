package l7proxy

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/xds"
)

// beyondEnvoy are the calls that we route and Envoy does not, since it reads
// strings alone; docs/xds.md says so.
var beyondEnvoy = map[string]string{
	"group int":  "none", // the text "2" is not "g2": as in Envoy
	"r int 3":    "c8",
	"r long 3":   "c8",
	"r double 3": "c8",
	"x int 3":    "c16",
	"x long 3":   "c16",
	"x double 3": "c16",
	"e int":      "c9",
	"e bool":     "c9",
	"rng int 3":  "c18",
}

// recorded is a dubbo_proxy and where a real Envoy sent calls by it.
type recorded struct {
	Filter map[string]any
	Calls  []struct{ Name, Cluster, Body string }
}

// TestDubboProxyAsEnvoy routes the calls of testdata/envoy, from their bytes and by
// the tables there, as a real Envoy was seen to route them.
func TestDubboProxyAsEnvoy(t *testing.T) {
	for _, file := range []string{"dubbo_proxy.json", "dubbo_proxy_random.json"} {
		t.Run(file, func(t *testing.T) {
			var r recorded
			text, err := os.ReadFile(filepath.Join("testdata", "envoy", file))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &r); err != nil {
				t.Fatal(err)
			}
			if len(r.Calls) < 100 {
				t.Fatalf("only %d calls", len(r.Calls))
			}
			r.compare(t)
		})
	}
}

func (r *recorded) compare(t *testing.T) {
	t.Helper()
	r.Filter["@type"] = "type.googleapis.com/envoy.extensions.filters.network.dubbo_proxy.v3.DubboProxy"
	listener, err := json.Marshal(map[string]any{
		"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "l",
		"address":       map[string]any{"socket_address": map[string]any{"address": "10.0.0.1", "port_value": 20880}},
		"filter_chains": []any{map[string]any{"filters": []any{map[string]any{"name": "f", "typed_config": r.Filter}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "l.json")
	if err := os.WriteFile(path, listener, 0o600); err != nil {
		t.Fatal(err)
	}
	s, rejected := xds.Load([]string{path})
	if len(rejected) > 0 {
		t.Fatalf("rejected: %+v", rejected)
	}
	for _, call := range r.Calls {
		body, err := hex.DecodeString(call.Body)
		if err != nil {
			t.Fatal(err)
		}
		p, state := dubbo.ParsePrefix(dubbo.Hessian2, body)
		if state != codec.Complete {
			t.Fatalf("%s: %v", call.Name, state)
		}
		var values dubbo.Body
		values.Reset(codec.Header{Flags: dubbo.Hessian2}, body, p)
		got := "none"
		if route := router.Match(s.Listeners[0].Route, &rpc.Request{
			Protocol: rpc.ProtocolDubbo, Interface: p.Path, Method: p.Method, Version: p.Version,
			Authority: "10.0.0.1:20880", Attachments: &values, Arguments: &values,
		}, 0); route != nil {
			got = route.Action.Clusters[0].Cluster
		}
		want := call.Cluster
		if ours, ok := beyondEnvoy[call.Name]; ok {
			want = ours
		}
		if got != want {
			t.Errorf("%s: %s, want %s (Envoy: %s)", call.Name, got, want, call.Cluster)
		}
	}
}
