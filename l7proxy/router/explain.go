package router

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/condition"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Question is a call of which Explain tells the way. Without an interface and a
// method it is an opaque connection.
type Question struct {
	Destination netip.AddrPort    `json:"destination"` // what the consumer dials
	Interface   string            `json:"interface,omitempty"`
	Method      string            `json:"method,omitempty"` // of a generic call the one that it names
	Group       string            `json:"group,omitempty"`  // an attachment too
	Version     string            `json:"version,omitempty"`
	Attachments map[string]string `json:"attachments,omitempty"`
	Arguments   map[int]string    `json:"arguments,omitempty"` // texts, by index from 0
	// Consumer is who calls, for policies. Nil: somebody who is not authenticated.
	Consumer *subject.Consumer `json:"-"`
	// Own are the consumer's own addresses, and Unknown is what becomes of its connects to
	// what no listener is for, where its configuration refuses those.
	Own     []netip.Addr    `json:"-"`
	Unknown handoff.Unknown `json:"-"`
}

// Outcome is what becomes of a call.
type Outcome string

// The outcomes.
const (
	OutcomeRoute  Outcome = "route"  // it takes a route
	OutcomeTCP    Outcome = "tcp"    // its bytes pass unread
	OutcomePass   Outcome = "pass"   // it is not steered into the proxy
	OutcomeRefuse Outcome = "refuse" // the proxy answers with an error
	// OutcomeUnreachable: connect() fails, and nothing comes to the proxy.
	OutcomeUnreachable Outcome = "unreachable"
)

// Decision is the way of a call and the chain of objects that made it.
type Decision struct {
	Way // of the matching route

	Outcome     Outcome `json:"outcome"`
	Reason      string  `json:"reason,omitempty"` // of OutcomePass, OutcomeRefuse and OutcomeUnreachable
	Listener    string  `json:"listener,omitempty"`
	RouteConfig string  `json:"routeConfig,omitempty"`
	VirtualHost string  `json:"virtualHost,omitempty"`
	// Otherwise is where the requests go that are not in the fraction of the
	// matching route; what is missing to 100 % is refused.
	Otherwise []Way  `json:"otherwise,omitempty"`
	Steps     []Step `json:"steps"`
}

// Way is a route and where it leads.
type Way struct {
	Route    string   `json:"route,omitempty"`  // its name; may be empty
	Origin   string   `json:"origin,omitempty"` // the resource and its place
	Config   string   `json:"config,omitempty"` // the object that it was made of: "virtual-service shop/orders"
	Share    float64  `json:"share,omitempty"`  // percent of such calls
	Clusters []Target `json:"clusters,omitempty"`
}

// Target is a cluster and its share of a way.
type Target struct {
	Cluster   string            `json:"cluster"`
	Weight    uint32            `json:"weight"`
	Share     float64           `json:"share"` // percent
	Subset    map[string]string `json:"subset,omitempty"`
	Known     bool              `json:"known"` // false: no such cluster
	Endpoints []Candidate       `json:"endpoints"`
}

// Candidate is an endpoint that may be chosen.
type Candidate struct {
	Address  string `json:"address"` // or "host:port" for a name
	Weight   uint32 `json:"weight"`
	Healthy  bool   `json:"healthy"`
	Priority uint32 `json:"priority"`
	Load     uint32 `json:"load"` // percent of the load that its priority gets
}

// Step is one link of the chain, in the order of the decision.
type Step struct {
	Object  string `json:"object"`  // "listener outbound-20880"
	Verdict string `json:"verdict"` // "matches", "no", "chosen", "missing"
	Why     string `json:"why,omitempty"`
}

// Explain tells the way of a call under s.
func Explain(s *snapshot.Snapshot, q Question) Decision {
	e := explanation{snapshot: s, question: q}
	e.explain()
	return e.Decision
}

// explanation is a Decision in the making.
type explanation struct {
	Decision

	snapshot *snapshot.Snapshot
	question Question
	listener *snapshot.Listener // whose policies hold
}

func (e *explanation) explain() {
	dst := netip.AddrPortFrom(e.question.Destination.Addr().Unmap(), e.question.Destination.Port())
	e.question.Destination = dst
	l := e.snapshot.Listener(dst)
	if l == nil {
		e.step("listeners", "no", "none covers "+dst.String())
		e.unknown(dst)
		return
	}
	e.Listener = l.Name
	e.step("listener "+l.Name, "matches", fmt.Sprintf("%s covers %s", covers(l), dst))
	if l.RouteName == "" || e.question.Interface == "" && e.question.Method == "" {
		if !e.forbidden(l.TCPGate) {
			e.opaque(l)
		}
		return
	}
	if e.forbidden(l.Gate) {
		return
	}
	e.listener = l
	if e.pinned() {
		if why := e.denied(nil); why != "" {
			e.end(OutcomeRefuse, why)
		}
		return
	}
	e.RouteConfig = l.RouteName
	if l.Route == nil {
		why := "the source has not given it"
		if l.RouteServer != "" {
			why = fmt.Sprintf("the server of routes %s has not given it: see dubwayctl xds", l.RouteServer)
		}
		e.step("route configuration "+l.RouteName, "missing", why)
		e.end(OutcomeRefuse, rpc.WhyNoRoute.String())
		return
	}
	e.route(l.Route)
}

// opaque explains a connection that is not routed by request.
func (e *explanation) opaque(l *snapshot.Listener) {
	e.Outcome = OutcomeTCP
	if len(l.TCP) == 0 {
		e.step("listener "+l.Name, "chosen", "names no cluster for opaque connections: they go to where they were dialled")
		return
	}
	e.Way = e.way(&snapshot.Action{Clusters: l.TCP, Total: total(l.TCP)}, 100)
}

// route walks the routes as Match does.
func (e *explanation) route(rc *snapshot.RouteConfig) {
	req := e.request()
	vh := virtualHost(rc, req)
	if vh == nil {
		e.step("route configuration "+rc.Name, "no", fmt.Sprintf("no domain for %s or %s", req.Authority, req.Interface))
		e.end(OutcomeRefuse, rpc.WhyNoRoute.String())
		return
	}
	e.VirtualHost = vh.Name
	e.step("virtual host "+vh.Name, "matches", "domains "+strings.Join(vh.Domains, " "))
	m := newMatcher(req)
	var taken uint32 // millionths of the requests that earlier routes take
	for _, r := range vh.Routes {
		why := m.check(&r.Match)
		fraction := min(r.Match.Fraction, million)
		switch {
		case why != matches:
			e.step(routeName(r), "no", m.because(&r.Match, why))
			continue
		case fraction <= taken:
			e.step(routeName(r), "no", "its fraction leaves nothing to it")
			continue
		}
		e.step(routeName(r), "matches", m.because(&r.Match, why))
		e.take(r, float64(fraction-taken)*100/million)
		if taken = fraction; taken == million {
			break
		}
	}
	switch taken {
	case 0:
		e.end(OutcomeRefuse, rpc.WhyNoRoute.String())
	case million:
	default:
		e.step("virtual host "+vh.Name, "no", "no route for the remaining "+percent(float64(million-taken)*100/million))
	}
}

// take adds a route that matches.
func (e *explanation) take(r *snapshot.Route, share float64) {
	w := e.way(&r.Action, share)
	e.hashed(&r.Action)
	if r.Action.Direct == nil {
		e.dialled(r, &w)
	}
	w.Route, w.Origin, w.Config = r.Name, r.Origin, r.Config
	denied := e.denied(r)
	if denied == "" && r.Action.Direct != nil {
		denied = rpc.WhyDirect.String()
		e.step(routeName(r), "answers", fmt.Sprintf("with %s, in the provider's stead", answer(r.Action.Direct)))
	}
	if e.Outcome == OutcomeRoute {
		e.Otherwise = append(e.Otherwise, w)
		return
	}
	e.Outcome, e.Way = OutcomeRoute, w
	if denied != "" && share == 100 { // else those of its share are refused: the step says so
		e.end(OutcomeRefuse, denied)
	}
}

// way describes where an action leads.
func (e *explanation) way(a *snapshot.Action, share float64) Way {
	w := Way{Share: share}
	for i := range a.Clusters {
		c := &a.Clusters[i]
		t := Target{
			Cluster: c.Cluster, Weight: c.Weight, Subset: c.Subset, Endpoints: []Candidate{},
			Share: 100 * float64(c.Weight) / float64(max(a.Total, 1)),
		}
		if len(a.Clusters) == 1 {
			t.Share = 100
		}
		known := e.snapshot.Clusters[c.Cluster]
		if t.Known = known != nil; t.Known {
			t.Endpoints = e.candidates(known, c.Subset)
		}
		e.target(&t)
		w.Clusters = append(w.Clusters, t)
	}
	return w
}

func (e *explanation) target(t *Target) {
	object := "cluster " + t.Cluster
	switch {
	case !t.Known:
		e.step(object, "missing", rpc.WhyNoCluster.String())
	case len(t.Endpoints) == 0:
		e.step(object, "chosen", fmt.Sprintf("gets %s: %s", percent(t.Share), rpc.WhyNoEndpoint))
	default:
		e.step(object, "chosen", fmt.Sprintf("gets %s, endpoints to choose from: %d", percent(t.Share), len(t.Endpoints)))
	}
}

func (e *explanation) candidates(c *snapshot.Cluster, subset snapshot.Metadata) []Candidate {
	list := []Candidate{}
	own := e.listener != nil && e.snapshot.IsOwn(e.question.Destination)
	if c.Kind == snapshot.ClusterOriginalDst && (!own || c.Dials()) {
		return append(list, Candidate{Address: e.question.Destination.String(), Weight: 1, Healthy: true, Load: 100})
	}
	for _, o := range cluster.Candidates(c, subset) {
		address := o.Endpoint.Address.String()
		if o.Endpoint.Hostname != "" {
			address = fmt.Sprintf("%s:%d", o.Endpoint.Hostname, o.Endpoint.Port)
		}
		list = append(list, Candidate{
			Address: address, Weight: max(o.Endpoint.Weight, 1), Healthy: o.Endpoint.Healthy,
			Priority: o.Priority, Load: o.Load,
		})
	}
	return list
}

func (e *explanation) request() *rpc.Request {
	q := e.question
	return &rpc.Request{
		Protocol: rpc.ProtocolDubbo, Interface: q.Interface, Method: q.Method, Version: q.Version,
		Authority: q.Destination.String(), Attachments: asked(q), Arguments: asked(q),
	}
}

// asked is a question as the attachments and the arguments of its request.
type asked Question

var (
	_ rpc.Attachments = asked{}
	_ rpc.Arguments   = asked{}
)

// Lookup finds an attachment. Part of rpc.Attachments.
func (a asked) Lookup(name string) (string, bool, error) {
	if v, ok := a.Attachments[name]; ok {
		return v, true, nil
	}
	return a.Group, name == "group" && a.Group != "", nil
}

// Spelling finds an attachment in any case. Part of rpc.Attachments.
func (a asked) Spelling(name string, nth int) (string, bool, error) {
	names := slices.Sorted(maps.Keys(a.Attachments))
	if _, ok := a.Attachments["group"]; !ok && a.Group != "" {
		names = append(names, "group")
	}
	for _, n := range names {
		if spelled := (condition.Text{n}); !spelled.Equals(name, true) {
			continue
		}
		if nth == 0 {
			return a.Lookup(n)
		}
		nth--
	}
	return "", false, nil
}

// Argument finds an argument. Part of rpc.Arguments.
func (a asked) Argument(index int) (string, bool, error) {
	v, ok := a.Arguments[index]
	return v, ok, nil
}

func (e *explanation) step(object, verdict, why string) {
	e.Steps = append(e.Steps, Step{object, verdict, why})
}

func (e *explanation) end(o Outcome, reason string) { e.Outcome, e.Reason = o, reason }

func routeName(r *snapshot.Route) string {
	if r.Name == "" {
		return "route " + made(r)
	}
	return fmt.Sprintf("route %s (%s)", r.Name, made(r))
}

// made names where a route is, and of what it was made.
func made(r *snapshot.Route) string {
	if r.Config == "" {
		return r.Origin
	}
	return r.Origin + ", of " + r.Config
}

// covers writes what a listener is for: "10.0.0.1:20880", "10.0.0.0/8:*".
func covers(l *snapshot.Listener) string {
	address, port := l.Prefix.String(), "*"
	if l.Prefix.IsSingleIP() {
		address = l.Prefix.Addr().String()
		if l.Prefix.Addr().Is6() {
			address = "[" + address + "]"
		}
	}
	if l.Port != 0 {
		port = strconv.Itoa(int(l.Port))
	}
	return address + ":" + port
}

func total(clusters []snapshot.WeightedCluster) (sum uint64) {
	for i := range clusters {
		sum += uint64(clusters[i].Weight)
	}
	return sum
}
