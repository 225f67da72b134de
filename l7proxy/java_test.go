package l7proxy

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds"
)

// table is a listener with a dubbo_proxy whose entries are given.
func table(t *testing.T, entries string) *snapshot.RouteConfig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "l.yaml")
	text := `"@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: l
address: {socket_address: {address: 10.0.0.1, port_value: 20880}}
filter_chains:
- filters:
  - name: f
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.dubbo_proxy.v3.DubboProxy
      stat_prefix: x
      route_config: ` + entries
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, rejected := xds.Load([]string{path})
	if len(rejected) > 0 {
		t.Fatalf("rejected: %+v", rejected)
	}
	return s.Listeners[0].Route
}

const (
	anyCall = `{interface: "*", routes: [{match: {method: {name: {safe_regex: {regex: ".*"}}}}, route: {cluster: any}}]}`
	byGroup = `{interface: "org.example.*", group: g1, routes: [{match: {method: {name: {prefix: e}}}, route: {cluster: group}}]}`
	byName  = `{interface: "*Service", version: 0.0.0, routes: [{match: {method: {name: {exact: echo}}}, route: {cluster: name}}]}`
	byText  = `{interface: "*", routes: [{match: {method: {name: {exact: echo}, params_match: {0: {exact_match: gx}}}}, route: {cluster: text}}]}`
	byOther = `{interface: "*", routes: [{match: {method: {name: {exact: echo}, params_match: {0: {exact_match: g}}}}, route: {cluster: other}}]}`
	byKey   = `{interface: "*", routes: [{match: {method: {name: {suffix: o}}, headers: [{name: GENERIC, present_match: true}]}, route: {cluster: key}}]}`
)

// TestJavaFramesByTable routes what Dubbo Java sent, in both serializations.
func TestJavaFramesByTable(t *testing.T) {
	for _, tt := range []struct {
		frame   string
		entries []string
		want    string
		static  bool
	}{
		{"grouped", []string{byGroup, anyCall}, "group", false},
		{"echo", []string{byGroup, anyCall}, "any", false},
		{"echo", []string{byName, anyCall}, "name", true},
		{"ping", []string{byName, anyCall}, "any", true},
		{"generic", []string{byName, anyCall}, "name", true},
		{"generic", []string{byOther, byText, anyCall}, "text", false},
		{"generic", []string{byKey, anyCall}, "key", false},
		{"echo", []string{byKey, anyCall}, "any", false},
		{"order", []string{byText, byKey, byName}, "", false},
	} {
		rc := table(t, "["+strings.Join(tt.entries, ", ")+"]")
		if rc.Static != tt.static {
			t.Errorf("%v: static %v", tt.entries, rc.Static)
		}
		for _, serialization := range []string{"hessian2", "fastjson2"} {
			if got := routed(t, rc, serialization+"-"+tt.frame); got != tt.want {
				t.Errorf("%s %s by %v: %q, want %q", serialization, tt.frame, tt.entries, got, tt.want)
			}
		}
	}
}

// An undecodable request takes the route for any interface and any method.
func TestUndecodableFramesByTable(t *testing.T) {
	for _, frame := range []string{"kryo", "null-path", "generic-blank-method", "fastjson2-generic-null-method"} {
		if got := routed(t, table(t, "["+byName+", "+byText+", "+anyCall+"]"), frame); got != "any" {
			t.Errorf("%s takes %q", frame, got)
		}
		if got := routed(t, table(t, "["+byName+", "+byText+"]"), frame); got != "" {
			t.Errorf("%s takes %q", frame, got)
		}
	}
}

// routed is the cluster of a golden frame of package dubbo, "" for none.
func routed(t *testing.T, rc *snapshot.RouteConfig, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("codec", "dubbo", "testdata", name+".frame"))
	if err != nil {
		t.Fatal(err)
	}
	_, digits, _ := strings.Cut(string(text), "\n\n")
	frame, err := hex.DecodeString(strings.ReplaceAll(digits, "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	h, err := dubbo.ParseHeader(frame)
	if err != nil {
		t.Fatal(err)
	}
	body := frame[dubbo.HeaderLen:]
	p, state := dubbo.ParsePrefix(h.Serialization(), body)
	req := rpc.Request{Authority: "10.0.0.1:20880", Undecodable: state != codec.Complete}
	if !req.Undecodable {
		var values dubbo.Body
		values.Reset(h, body, p)
		req.Interface, req.Method, req.Version, req.Generic = p.Path, p.Method, p.Version, p.Generic
		req.Attachments, req.Arguments = &values, &values
	}
	if r := router.Match(rc, &req, 0); r != nil {
		return r.Action.Clusters[0].Cluster
	}
	return ""
}
