package xds

import (
	"crypto/sha256"
	"fmt"
	"net/netip"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/convert"
	"github.com/dubway/dubway/l7proxy/xds/files"
	"github.com/dubway/dubway/l7proxy/xds/listeners"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/routes"
)

// key names a resource.
type key struct{ kind, name string }

// entry is the last good version of a resource. Immutable; one of the last
// six is set.
type entry struct {
	file string
	sum  files.Sum

	listeners  []*snapshot.Listener
	inbounds   []*snapshot.Inbound // of a listener too
	unknown    *snapshot.Unknown   // the same
	route      *snapshot.RouteConfig
	cluster    *snapshot.Cluster
	assignment string // of cluster: the Assignment to join, or ""
	endpoints  *convert.Assignment
}

// set is the last good version of everything. Immutable: next makes another.
type set struct {
	entries map[key]*entry
	order   []key
	parsed  map[string]parsed // by file; those that were taken whole
}

// parsed remembers what a file held, so that a change of one file costs the
// parsing of one. The messages are gone: every resource is an entry.
type parsed struct {
	sum       files.Sum
	resources []files.Resource
}

// provider is a port of whoever an inbound listener is for.
type provider struct {
	workload string
	address  netip.Addr
	port     uint16
}

func providerOf(in *snapshot.Inbound) provider { return provider{in.Workload, in.Address, in.Port} }

func (w provider) String() string {
	who, port := w.workload, fmt.Sprintf("port %d", w.port)
	if who == "" {
		who = w.address.String()
	}
	if w.port == 0 {
		port = "every other port"
	}
	return who + " " + port
}

// builder makes the next set out of the last one.
type builder struct {
	last     *set
	next     *set
	bad      map[key]string // rejected resources, and the file of each
	broken   map[string]bool
	bound    map[snapshot.Destination]string // the listener of each; no two may have one
	held     map[provider]string             // as bound
	pod      netip.Addr                      // whom the resources that are taken were sent to
	rejected []Rejection
}

// following makes the set that follows s when the files hold texts. What is
// rejected stays as it is in s; what is in no file any more goes.
func (s *set) following(texts []text) (*set, []Rejection) {
	b := &builder{
		last:   s,
		next:   &set{entries: make(map[key]*entry), parsed: make(map[string]parsed)},
		bad:    make(map[key]string),
		broken: make(map[string]bool),
		bound:  make(map[snapshot.Destination]string),
		held:   make(map[provider]string),
	}
	for _, t := range texts {
		b.file(t)
	}
	b.keep()
	return b.next, b.rejected
}

// file adds what a file holds, unless it cannot be read.
func (b *builder) file(t text) {
	if t.sent != nil {
		b.pod = t.pod
		for _, r := range t.sent {
			b.take(t.file, r)
		}
		return
	}
	sum := files.Sum(sha256.Sum256(t.data))
	p, ok := b.last.parsed[t.file]
	if err := t.err; err != nil || !ok || p.sum != sum {
		p.sum = sum
		if err == nil {
			p.resources, err = files.Parse(t.data)
		}
		if err != nil {
			b.broken[t.file] = true
			b.rejected = append(b.rejected, rejectFile(t.file, err))
			return
		}
	}
	before := len(b.rejected)
	for i := range p.resources {
		b.take(t.file, &p.resources[i])
	}
	if len(b.rejected) > before {
		return // the messages are needed again when what is in the way goes
	}
	for i := range p.resources {
		p.resources[i].Message = nil
	}
	b.next.parsed[t.file] = p
}

// take adds a resource, or rejects it. What is wrong with it by itself it remembers in r,
// so that it is found out once.
func (b *builder) take(file string, r *files.Resource) {
	k := key{r.Kind, r.Name}
	if other, ok := b.next.entries[k]; ok {
		b.rejected = append(b.rejected, rejectField(file, k, nameField(k.kind), "is already in "+other.file))
		return
	}
	e, problems := b.last.entries[k], r.Problems
	if len(problems) == 0 && (e == nil || e.file != file || e.sum != r.Sum) {
		e, problems = b.convert(file, r)
		r.Problems = problems
	}
	if len(problems) == 0 {
		problems = b.bind(k, e)
	}
	if len(problems) > 0 {
		b.bad[k] = file
		b.rejected = append(b.rejected, rejectResource(file, k, problems))
		return
	}
	b.add(k, e)
}

// convert opens a resource and converts it.
func (b *builder) convert(file string, r *files.Resource) (*entry, problems.List) {
	opened := *r // its message is not needed afterwards
	if opened.Open(); len(opened.Problems) > 0 {
		return nil, opened.Problems
	}
	m, isListener := opened.Message.(*listenerv3.Listener)
	if isListener && b.pod.IsValid() && m.GetTrafficDirection() == corev3.TrafficDirection_INBOUND {
		listeners.Locate(m, b.pod)
	}
	return convertResource(file, opened)
}

func (b *builder) add(k key, e *entry) {
	b.next.entries[k] = e
	b.next.order = append(b.next.order, k)
}

// bind claims a listener's addresses, or its providers.
func (b *builder) bind(k key, e *entry) problems.List {
	var p problems.List
	for _, l := range e.listeners {
		at := snapshot.Destination{Prefix: l.Prefix, Port: l.Port}
		if other, ok := b.bound[at]; ok && other != k.name {
			p.Addf("address", "%s port %d is already listener %s's", l.Prefix, l.Port, other)
			return p
		}
	}
	for _, in := range e.inbounds {
		if other, ok := b.held[providerOf(in)]; ok && other != k.name {
			p.Addf("address", "%s is already listener %s's", providerOf(in), other)
			return p
		}
	}
	for _, in := range e.inbounds {
		b.held[providerOf(in)] = k.name
	}
	for _, l := range e.listeners {
		b.bound[snapshot.Destination{Prefix: l.Prefix, Port: l.Port}] = k.name
	}
	return nil
}

// keep adds the last good version of what is rejected now, and all that came
// from a file that cannot be read now.
func (b *builder) keep() {
	for _, k := range b.last.order {
		if _, ok := b.next.entries[k]; ok {
			continue
		}
		e := b.last.entries[k]
		file, isBad := b.bad[k]
		switch {
		case isBad:
			moved := *e
			moved.file = file
			e = &moved
		case !b.broken[e.file]:
			continue // removed
		}
		if p := b.bind(k, e); len(p) > 0 {
			b.rejected = append(b.rejected, rejectField(e.file, k, p[0].Field, "the last good version goes too: "+p[0].Reason))
			continue
		}
		b.add(k, e)
	}
}

// nameField is the field of a resource's name.
func nameField(kind string) string {
	if kind == "ClusterLoadAssignment" {
		return "cluster_name"
	}
	return "name"
}

// convertResource converts one resource that was read without a problem.
func convertResource(file string, r files.Resource) (*entry, problems.List) {
	e := &entry{file: file, sum: r.Sum}
	var p problems.List
	switch m := r.Message.(type) {
	case *listenerv3.Listener:
		switch {
		case m.GetTrafficDirection() == corev3.TrafficDirection_INBOUND:
			e.inbounds, p = listeners.Inbound(m)
		case listeners.CatchesAll(m):
			e.unknown = new(snapshot.Unknown)
			*e.unknown, p = listeners.Unknown(m)
		default:
			e.listeners, p = listeners.Outbound(m)
		}
	case *routev3.RouteConfiguration:
		e.route, p = routes.RouteConfiguration(m)
	case *clusterv3.Cluster:
		e.cluster, e.assignment, p = convert.Cluster(m)
	case *endpointv3.ClusterLoadAssignment:
		e.endpoints, p = convert.ClusterLoadAssignment(m)
	default:
		p.Addf("@type", "%s", fmt.Sprintf("%T: not a resource that is implemented", m))
	}
	return e, p
}

// equal tells whether two sets hold the same resources.
func (s *set) equal(o *set) bool {
	if len(s.entries) != len(o.entries) {
		return false
	}
	for k, e := range s.entries {
		if other, ok := o.entries[k]; !ok || e.sum != other.sum {
			return false
		}
	}
	return true
}
