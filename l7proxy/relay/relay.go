// Package relay passes opaque connections on: what is not Dubbo, byte for byte, to what
// was dialled or where its listener's tcp_proxy leads. It looks at no bytes.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/plan"
	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/telling"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// connectLimit bounds the connect of an opaque connection.
const connectLimit = 5 * time.Second

// maxAttempts bounds the endpoints that are tried.
const maxAttempts = 3

// Env is what all relayed connections share.
type Env struct {
	plan.Env

	Dialer upstream.Dialer
	Logger *slog.Logger
	// PassUnknown says that connections to unknown destinations pass, whatever the
	// configuration says: a dry run.
	PassUnknown bool
}

// Opaque is a connection that is passed on.
type Opaque struct {
	*plan.Source

	Env  *Env
	Conn *sock.Conn
	// Off says that the connection goes to what was dialled, whatever the configuration
	// says: its workload is left alone.
	Off bool
}

// Relay passes bytes both ways, half-close included, and closes both sides. To is the
// provider's connection if there is one already.
func (o *Opaque) Relay(protocol rpc.Protocol, to *sock.Conn) {
	call := &rpc.Call{Protocol: protocol, Original: o.Original}
	o.describe(call)
	v, observed := o.gate(protocol)
	if v.Why != rpc.WhyNone && !observed {
		if to != nil {
			_ = to.Close()
		}
		o.refuse(call, v.Why)
		return
	}
	// Its provider's side is a descriptor of its own, unlike that of requests.
	if !o.Quota.Connect() {
		if to != nil {
			_ = to.Close()
		}
		o.refuse(call, rpc.WhyOverflow)
		return
	}
	defer o.Quota.Disconnect()
	var err error
	if to == nil {
		var c *rpc.Call
		if to, c, err = o.Connect(); c != nil {
			if c.Protocol = protocol; o.Inbound {
				c.Told = call.Told
			}
			call = c
		}
	}
	if call.Would = v.Why; v.Why != rpc.WhyNone {
		call.WouldBy = v.Policy
	}
	if err != nil {
		// The consumer sees what it would have seen without us.
		o.Env.Logger.Debug("opaque connection failed", "workload", o.Workload.UID, "to", o.Original, "error", err)
		o.refuse(call, whyNot(err))
		return
	}
	if limit := o.maxConnections(call.Cluster); limit != nil {
		b := o.Env.Breakers.Of(o.Workload.UID, call.Cluster)
		if !b.Connect(limit) {
			_ = to.Close()
			o.refuse(call, rpc.WhyOverflow)
			return
		}
		defer b.Disconnect()
	}
	record := rpc.Connection{Call: call, Start: time.Now(), Downstream: o.Remote}
	o.Env.Recorder.Connection(&record)
	record.Received, record.Sent = o.pass(to, o.idle(protocol))
	record.Closed, record.Duration = true, time.Since(record.Start)
	o.Env.Recorder.Connection(&record)
}

// snapshot is what the connection's workload sees at the moment.
func (o *Opaque) snapshot() *snapshot.Snapshot { return o.Env.View(o.Workload.UID)() }

// pass moves the bytes until both sides have ended, and closes them. Limit is how long
// nothing may move; 0: for ever.
func (o *Opaque) pass(to *sock.Conn, limit time.Duration) (received, sent int64) {
	if limit > 0 {
		ended := make(chan struct{})
		defer close(ended)
		go expire(limit, ended, o.Conn, to)
	}
	back := make(chan int64, 1)
	go func() { back <- sock.Pipe(o.Conn, to) }()
	received = sock.Pipe(to, o.Conn)
	sent = <-back
	_ = o.Conn.Close()
	_ = to.Close()
	return received, sent
}

// errOverflow: the cluster has as many connections of the workload as it may.
var errOverflow = errors.New("the cluster's max_connections are in use")

func whyNot(err error) rpc.Why {
	if errors.Is(err, errOverflow) {
		return rpc.WhyOverflow
	}
	return rpc.WhyOf(err)
}

// maxConnections is the threshold of a cluster; nil: none.
func (o *Opaque) maxConnections(name string) *uint32 {
	if c := o.snapshot().Clusters[name]; c != nil {
		return c.MaxConnections
	}
	return nil
}

// Refuse ends a connection that is not to be served, and records why.
func (o *Opaque) Refuse(protocol rpc.Protocol, why rpc.Why) {
	call := &rpc.Call{Protocol: protocol, Original: o.Original}
	o.describe(call)
	o.refuse(call, why)
}

// refuse ends a connection that gets no provider.
func (o *Opaque) refuse(call *rpc.Call, why rpc.Why) {
	_ = o.Conn.Reset()
	o.Env.Recorder.Connection(&rpc.Connection{Call: call, Why: why, Start: time.Now(), Downstream: o.Remote, Closed: true})
}

// describe fills in what is known before an endpoint is chosen.
func (o *Opaque) describe(call *rpc.Call) {
	rules := opaque(o.listener(call.Protocol))
	if o.Inbound {
		call.Told = report.Tell(nil, rules)
		call.Reporter, call.Destination = rpc.ReporterDestination, o.Workload.Peer
		call.Endpoint, call.Service = o.Original, rpc.Service(o.snapshot().Served(o.Original.Port()))
		call.Source = o.Env.Workloads.Peer(o.Remote.Addr(), nil)
		o.Env.Book().Accepted(call, o.Remote.Addr(), o.Principal, o.Own)
		return
	}
	call.Reporter, call.Source = rpc.ReporterSource, o.Workload.Peer
	call.Told = report.Tell(rules, nil)
}

// opaque is what a listener says of opaque connections; a nil one says nothing.
func opaque(l *snapshot.Listener) *report.Rules {
	if l == nil {
		return nil
	}
	return l.TCPReport
}

// Connect makes the provider's side, and describes the way for telemetry.
func (o *Opaque) Connect() (*sock.Conn, *rpc.Call, error) {
	call := &rpc.Call{Protocol: rpc.ProtocolTCP, Original: o.Original}
	o.describe(call)
	var errs []error
	for range maxAttempts {
		key := upstream.Key{Workload: o.Workload.UID, Endpoint: o.Original, Inbound: o.Inbound}
		endpoint, err := o.target(call)
		if err != nil {
			return nil, call, err
		}
		if endpoint != nil {
			key.Endpoint = endpoint.Address
			call.Endpoint = endpoint.Address
			key.TLS = router.TLSOf(o.snapshot(), call.Cluster, endpoint.Info)
		}
		c, err := o.dial(key, call)
		if err == nil {
			return c, call, nil
		}
		errs = append(errs, err)
		if endpoint == nil {
			break
		}
		if rpc.WhyOf(err) != rpc.WhyNoIdentity { // which says nothing of the endpoint
			endpoint.Failed()
		}
	}
	return nil, call, errors.Join(errs...)
}

func (o *Opaque) dial(key upstream.Key, call *rpc.Call) (*sock.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	way, err := o.Env.Dialer.Dial(ctx, key, o.Remote)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", key.Endpoint, err)
	}
	call.SameNode = way.SameNode
	if way.SameNode && !o.Inbound {
		call.Reporter = rpc.ReporterSource | rpc.ReporterDestination
		views := telling.Views{Of: o.Env.View, Workloads: o.Env.Workloads}
		call.Told = report.Tell(opaque(o.listener(call.Protocol)), opaque(views.At(key.Endpoint)))
	}
	if w := o.Env.Workloads.ByAddress(key.Endpoint.Addr()); w != nil && call.Destination == nil {
		call.Destination = w.Peer
	}
	if !o.Inbound {
		o.Env.Book().Dialled(call, way.Principal, way.Own)
	}
	c, err := sock.Open(way.TCP, way.Secured)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", key.Endpoint, err)
	}
	return c, nil
}

// target chooses an endpoint of the listener's TCP chain; nil means that the
// connection goes to what was dialled.
func (o *Opaque) target(call *rpc.Call) (*cluster.Endpoint, error) {
	snap := o.snapshot()
	l := snap.Listener(o.Original)
	if o.Off || o.Inbound || l == nil || len(l.TCP) == 0 {
		return nil, nil //nolint:nilnil // documented: no choice to be made
	}
	call.Listener = l.Name
	chosen := router.Cluster(tcpAction(l), rand.Uint64())
	call.Cluster = chosen.Cluster
	if c := snap.Clusters[chosen.Cluster]; c != nil {
		call.Service = rpc.Service(c.Service)
	}
	set := o.Env.Clusters.Of(snap.Clusters[chosen.Cluster])
	if set == nil {
		return nil, fmt.Errorf("cluster %q: %w", chosen.Cluster, cluster.ErrNoCluster)
	}
	if limit := o.maxConnections(chosen.Cluster); limit != nil {
		b := o.Env.Breakers.Of(o.Workload.UID, chosen.Cluster)
		if !b.Connect(limit) {
			return nil, fmt.Errorf("cluster %q: %w", chosen.Cluster, errOverflow)
		}
		b.Disconnect() // it counts once it is made
	}
	// A connection whose requests are not seen keeps to the provider that was
	// dialled: its metadata may be asked for on it (MetadataServiceV2 is Triple).
	if c := set.Config(); len(l.TCP) == 1 && c != nil && c.Balancing != snapshot.BalancingMesh && snap.IsEndpoint(o.Original) {
		if e := set.At(o.Original, chosen.Subset); e != nil {
			return e, nil
		}
	}
	e, err := set.Pick(cluster.Choice{
		Random: rand.Uint64(), Subset: chosen.Subset, Original: o.Original,
	})
	if err != nil {
		return nil, fmt.Errorf("choose endpoint of %q: %w", chosen.Cluster, err)
	}
	e.UsedBy(o.Workload.UID)
	return e, nil
}

// tcpAction is the listener's weighted clusters as a route's action.
func tcpAction(l *snapshot.Listener) *snapshot.Action {
	a := &snapshot.Action{Clusters: l.TCP}
	for _, c := range l.TCP {
		a.Total += uint64(c.Weight)
	}
	return a
}

// listener is what the configuration says of the connection; nil: nothing.
func (o *Opaque) listener(protocol rpc.Protocol) *snapshot.Listener {
	switch {
	case o.Off:
		return nil
	case o.Inbound:
		return o.Entrance(&o.Env.Env, o.snapshot(), protocol == rpc.ProtocolTLS)
	}
	return o.snapshot().Listener(o.Original)
}

// unknown is what becomes of a connection that no listener is for, and whether its workload
// is only observed: it was steered by a configuration that holds no more, or dialled the
// mesh's own port. What a pod says to itself, or to its own link, is not the mesh's business.
func (o *Opaque) unknown() (v filter.Verdict, observed bool) {
	to := o.Original.Addr()
	if o.Off || o.Inbound || o.Env.PassUnknown || o.snapshot().Unknown != snapshot.UnknownRefuse ||
		to.IsLoopback() || to.IsLinkLocalUnicast() || slices.Contains(o.Workload.Addresses, to) {
		return v, false
	}
	v.Why, v.Policy = rpc.WhyDenied, "outboundTrafficPolicy "+snapshot.UnknownRefuse.String()
	return v, o.Env.Modes.Of(o.Workload.UID).Mode() != mode.Enforce
}

// gate holds an opaque connection against the policies of its chain, and says whether
// its workload is only observed.
func (o *Opaque) gate(protocol rpc.Protocol) (v filter.Verdict, observed bool) {
	l := o.listener(protocol)
	if l == nil {
		return o.unknown()
	}
	g := l.OpaqueGate(protocol == rpc.ProtocolHTTP1 || protocol == rpc.ProtocolHTTP2)
	if g == nil {
		return v, false
	}
	s := subject.Subject{Destination: o.Original, Boundary: o.Inbound, Now: time.Now(), Random: rand.Uint64()}
	observed = o.Env.Modes.Of(o.Workload.UID).Mode() != mode.Enforce
	s.Observe = observed
	s.Consumer, _ = o.Consumer(&o.Env.Env)
	o.Env.Policies.Connection(g, &s, o.Env.Policies.Workloads.Of(o.Workload.UID), &v)
	return v, observed
}
