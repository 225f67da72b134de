package planetest

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
)

// Plane is a control plane of a mesh, which every view is told alike. It answers as istiod
// does: clusters and listeners as a whole, endpoints and routes by name. Its methods are
// safe for concurrent use.
type Plane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	mesh *Mesh
	own  bool // each view has inbound listeners of its own
	sent atomic.Int64

	mu      sync.Mutex // what follows
	counter int
	streams map[*subscriber]bool
	begun   time.Time // when the first stream was
	nacks   []string
}

// subscriber is a live stream.
type subscriber struct {
	wire    discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	account string
	sending sync.Mutex
	names   map[string]map[string]bool // by type; Plane's lock guards them
}

// New returns the control plane of a mesh; with own, each view has inbound listeners that
// no other has.
func New(m *Mesh, own bool) *Plane {
	return &Plane{mesh: m, own: own, streams: make(map[*subscriber]bool)}
}

// Serve serves until the listener fails.
func (p *Plane) Serve(l net.Listener) error {
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, p)
	if err := server.Serve(counted{l, &p.sent}); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// Sent is how many bytes went out on all connections.
func (p *Plane) Sent() int64 { return p.sent.Load() }

// Begun is when the first stream began; zero if none did.
func (p *Plane) Begun() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.begun
}

// Refused lists what was refused so far, with the reasons.
func (p *Plane) Refused() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.nacks)
}

// DeltaAggregatedResources serves one stream.
func (p *Plane) DeltaAggregatedResources(wire discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	s := &subscriber{wire: wire, names: make(map[string]map[string]bool)}
	p.mu.Lock()
	if p.streams[s] = true; p.begun.IsZero() {
		p.begun = time.Now()
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.streams, s)
	}()
	for {
		r, err := wire.Recv()
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if app := r.GetNode().GetMetadata().GetFields()["LABELS"].GetStructValue().GetFields()["app"]; app != nil {
			s.account = app.GetStringValue()
		}
		if err := p.requested(s, r); err != nil {
			return err
		}
	}
}

// requested answers a request.
func (p *Plane) requested(s *subscriber, r *discoveryv3.DeltaDiscoveryRequest) error {
	if r.GetResponseNonce() != "" {
		if bad := r.GetErrorDetail(); bad != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.nacks = append(p.nacks, bad.GetMessage())
		}
		return nil
	}
	typ := r.GetTypeUrl()
	var list []Resource
	p.mu.Lock()
	switch typ {
	case cluster, listener:
		for name, body := range p.mesh.held[typ] {
			list = append(list, Resource{typ, name, body})
		}
	default:
		names := s.names[typ]
		if names == nil {
			names = make(map[string]bool)
			s.names[typ] = names
		}
		for _, name := range r.GetResourceNamesUnsubscribe() {
			delete(names, name)
		}
		known := slices.Collect(maps.Keys(r.GetInitialResourceVersions()))
		for _, name := range slices.Concat(r.GetResourceNamesSubscribe(), known) {
			if names[name] = true; p.mesh.held[typ][name] != nil {
				list = append(list, Resource{typ, name, p.mesh.held[typ][name]})
			}
		}
	}
	p.mu.Unlock()
	if typ == listener && p.own {
		more, err := p.mesh.own(s.account)
		if err != nil {
			return err
		}
		list = append(list, more...)
	}
	return p.send(s, typ, list)
}

// send sends resources of one type at once, as istiod does, which gives none a version.
func (p *Plane) send(s *subscriber, typ string, list []Resource) error {
	p.mu.Lock()
	p.counter++
	version := fmt.Sprintf("%s/%d", time.Now().UTC().Format(time.RFC3339), p.counter)
	p.mu.Unlock()
	m := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typ, SystemVersionInfo: version, Nonce: version}
	for _, r := range list {
		m.Resources = append(m.Resources, &discoveryv3.Resource{Name: r.name, Resource: r.body})
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	if err := s.wire.Send(m); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// Put has a resource from now on, and pushes it to whoever asked for it.
func (p *Plane) Put(r Resource) {
	p.mu.Lock()
	fresh := maps.Clone(p.mesh.held)
	fresh[r.typ] = maps.Clone(fresh[r.typ])
	fresh[r.typ][r.name] = r.body
	p.mesh = &Mesh{held: fresh, inbound: p.mesh.inbound, single: p.mesh.single}
	var to []*subscriber
	for s := range p.streams {
		if r.typ == cluster || r.typ == listener || s.names[r.typ][r.name] {
			to = append(to, s)
		}
	}
	p.mu.Unlock()
	for _, s := range to {
		_ = p.send(s, r.typ, []Resource{r}) // a stream that has ended says so itself
	}
}

// counted counts what goes out on the connections of a listener.
type counted struct {
	net.Listener

	sent *atomic.Int64
}

// Accept is part of net.Listener.
func (l counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &counting{c, l.sent}, nil
}

// counting is a connection that is counted.
type counting struct {
	net.Conn

	sent *atomic.Int64
}

// Write is part of net.Conn.
func (c *counting) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

var (
	_ net.Listener = counted{}
	_ net.Conn     = (*counting)(nil)
)
