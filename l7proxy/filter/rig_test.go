package filter_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/filter/limit"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds"
)

// chain is a filter chain in the form of a control plane, with holes for what a test
// is about; each hole is a list in YAML's flow or JSON form.
type chain struct {
	network string // network filters, each followed by a comma
	http    string // HTTP filters
	config  string // typed_per_filter_config of the route configuration
	host    string // fields of the virtual host, each followed by a comma
	routes  string // routes; one for everything unless given

	fallback string // a field with the chain for opaque connections
}

const (
	httpRBAC  = `"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC`
	perRoute  = `"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute`
	httpLimit = `"@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: x`
	netRBAC   = `"@type": type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: tcp.`
	netLimit  = `"@type": type.googleapis.com/envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit, stat_prefix: tcp.`
	always    = `filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: {numerator: 100}}`
)

// load makes a snapshot of the chain, as the proxy would.
func (c chain) load(tb testing.TB) *snapshot.Snapshot {
	tb.Helper()
	if c.routes == "" {
		c.routes = `{match: {prefix: /}, route: {cluster: c}}`
	}
	if c.config == "" {
		c.config = "{}"
	}
	text := fmt.Sprintf(`resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: l
  address: {socket_address: {address: 198.19.0.20, port_value: 20880}}
  filter_chains:
  - filters: [%s{name: hcm, typed_config: {
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
      stat_prefix: x, rds: {route_config_name: r}, http_filters: [%s]}}]
    filter_chain_match: {application_protocols: [h2c]}
  %s
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: r
  typed_per_filter_config: %s
  virtual_hosts: [{name: v, domains: ["*"], %s routes: [%s]}]
`, c.network, c.http, c.fallback, c.config, c.host, c.routes)
	path := filepath.Join(tb.TempDir(), "x.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	s, rejected := xds.Load([]string{path})
	for _, r := range rejected {
		tb.Fatalf("%s %s: %s: %s %v", r.Kind, r.Name, r.Field, r.Reason, r.More)
	}
	return s
}

// place is where the snapshot's only listener and its nth route are.
func place(s *snapshot.Snapshot, nth int) filter.Place {
	l := s.Listeners[0]
	return filter.Place{Listener: l, Route: l.Route.VirtualHosts[0].Routes[nth]}
}

// call is a request of a test, and whose it is.
type call struct {
	method      string // Interface.method of package com.shop; "": it cannot be decoded
	version     string
	attachments attachments // nil: nobody opened them
	sa          string      // namespace/service account; "": not authenticated
	from, to    string      // addresses
	boundary    bool
}

// subjectOf makes what policies see of a call.
func subjectOf(tb testing.TB, c call) *subject.Subject {
	tb.Helper()
	if c.from == "" {
		c.from = "198.18.1.10"
	}
	if c.to == "" {
		c.to = "198.19.0.20:20880"
	}
	namespace, account, authenticated := strings.Cut(c.sa, "/")
	peer := &rpc.Peer{Namespace: namespace, ServiceAccount: account, App: account}
	s := &subject.Subject{
		Consumer:    subject.NewConsumer(peer, netip.MustParseAddr(c.from), identity.DefaultTrustDomain, authenticated),
		Destination: netip.MustParseAddrPort(c.to), Boundary: c.boundary, Now: time.Unix(1000, 0),
	}
	s.Reset(requestOf(c))
	return s
}

func requestOf(c call) *rpc.Request {
	req := &rpc.Request{Protocol: rpc.ProtocolDubbo, Version: c.version, Authority: c.to, Undecodable: c.method == ""}
	if iface, method, ok := strings.Cut(c.method, "."); ok {
		req.Interface, req.Method = "com.shop."+iface, method
	}
	if c.attachments != nil {
		req.Attachments = c.attachments
	}
	return req
}

// attachments is a body in a test; one with the name "broken" cannot be read.
type attachments map[string]string

func (a attachments) Lookup(name string) (string, bool, error) {
	if _, broken := a["broken"]; broken {
		return "", false, errors.New("the body ends early")
	}
	v, ok := a[name]
	return v, ok, nil
}

func (a attachments) Spelling(name string, nth int) (string, bool, error) {
	if nth > 0 {
		return "", false, nil
	}
	return a.Lookup(name)
}

// workload returns buckets that nobody has used.
func workload() *limit.Workload { return new(limit.Workloads).Of("pod") }
