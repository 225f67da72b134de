// Package l7proxy is the unprivileged half of Dubway: one process on each node
// that decodes what pods say to each other and applies the policies of its
// snapshot. Here it is put together; the rooms below do the work, in the order
// of a request: listener, downstream, router, cluster, upstream, telemetry.
package l7proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/breaker"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/cluster/zone"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/codec/thrift"
	"github.com/dubway/dubway/l7proxy/downstream"
	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/lane"
	"github.com/dubway/dubway/l7proxy/lane/lent"
	"github.com/dubway/dubway/l7proxy/lane/tally"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/listener"
	"github.com/dubway/dubway/l7proxy/mirror"
	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/mtls"
	"github.com/dubway/dubway/l7proxy/overload"
	"github.com/dubway/dubway/l7proxy/plan"
	"github.com/dubway/dubway/l7proxy/probe"
	"github.com/dubway/dubway/l7proxy/proof"
	"github.com/dubway/dubway/l7proxy/quota"
	"github.com/dubway/dubway/l7proxy/ratelimit"
	"github.com/dubway/dubway/l7proxy/relay"
	"github.com/dubway/dubway/l7proxy/sight"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/apart"
	"github.com/dubway/dubway/l7proxy/steering"
	"github.com/dubway/dubway/l7proxy/tap"
	"github.com/dubway/dubway/l7proxy/telemetry"
	"github.com/dubway/dubway/l7proxy/telemetry/inverted"
	"github.com/dubway/dubway/l7proxy/telemetry/stale"
	"github.com/dubway/dubway/l7proxy/telemetry/verdicts"
	"github.com/dubway/dubway/l7proxy/trace"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/witness"
	"github.com/dubway/dubway/l7proxy/workload"
	"github.com/dubway/dubway/l7proxy/xds"
	"github.com/dubway/dubway/l7proxy/xds/views"
)

// Options are the proxy's flags.
type Options struct {
	StateDir      string
	HandoffSocket string
	XDSDir        string
	XDSServer     string // HOST:PORT of the control plane that is asked in place of XDSDir; "" for none
	XDSCluster    string // CLUSTER_ID, as it is asked; "" for none
	Domain        string // of the Kubernetes cluster: cluster.local
	Aeraki        string // HOST:PORT of Aeraki's server, where the control plane tells of none; or ""
	// Unknown is what becomes of connects to unknown destinations where the configuration
	// says that they are refused.
	Unknown         handoff.Unknown
	Secured         proof.Secured
	SameNodeEncrypt Encrypt
	Node            string
	Locality        string // "region/zone/subzone" of the node, or its first parts; "" if it is not known
	MetricsAddress  string // "" for none
	HealthAddress   string // "" for none
	AccessLog       io.Writer
	Sample          float64       // share of requests that are logged, as of telemetry.Options
	LaneLog         uint32        // calls in the lane that are logged or shown by a tap, a second; 0: none
	Applications    bool          // consumers' own names are a label
	TapBodies       bool          // root and our own user may read what calls say
	MaxFrame        int           // bytes
	MaxConnections  int64         // of one workload
	MaxTotal        int64         // of all workloads
	MaxBuffers      int64         // bytes of one workload's read buffers
	MaxInFlight     int64         // requests of one workload; 0: any number
	MaxDecoded      int64         // values of one workload's bodies that are read in a second; 0: any number
	MemoryLimit     uint64        // bytes; 0: none
	MemoryUsed      func() uint64 // what counts against it; nil: what the Go runtime has
	Drain           time.Duration // how long pending requests may take at the end
	Logger          *slog.Logger
}

// Proxy is the running proxy.
type Proxy struct {
	opts       Options
	log        *slog.Logger
	started    time.Time
	workloads  *workload.Registry
	source     source
	control    *views.Set // source, where that is a control plane; or nil
	clusters   *cluster.Manager
	dialer     *witness.Dialer
	ends       *mtls.Ends
	pool       *upstream.Pool
	limits     *ratelimit.Client
	tracer     *trace.Tracer
	recorder   *telemetry.Recorder
	tap        *tap.Hub
	metrics    *prometheus.Registry
	env        *downstream.Env
	listeners  *listener.Set
	quotas     *quota.Node
	agent      *handoff.Client
	lanes      *lent.Memory
	riders     *lane.Lanes
	tally      *tally.Table
	memory     *overload.Monitor
	identities *proof.Proof
	steering   *steering.Steering

	sight      *sight.Sight // what requests see
	knowing    sync.Mutex   // what is known of a workload changes
	applying   sync.Mutex
	policed    []apart.Part           // whose policies are counted; applying guards it
	generation atomic.Uint64          // of sight
	rejected   func() []xds.Rejection // at present
	rejections func() uint64          // so far
	connected  atomic.Bool            // to the agent, and told of every pod
	afresh     atomic.Bool            // since the agent was told of destinations
	yielded    atomic.Bool            // in this connection to the agent
	accepted   atomic.Bool            // once, since the proxy began
	publish    chan struct{}
}

// New puts the proxy together. It opens nothing yet.
func New(opts Options) (*Proxy, error) {
	p := &Proxy{opts: opts, log: opts.Logger, started: time.Now(), publish: make(chan struct{}, 1)}
	p.tally = tally.New(opts.LaneLog)
	p.tap = &tap.Hub{Collect: p.tally.Collect}
	p.metrics = telemetry.NewRegistry()
	if err := opts.SameNodeEncrypt.check(); err != nil {
		return nil, err
	}
	p.sight = sight.New()
	var err error
	p.recorder, err = telemetry.New(telemetry.Options{
		AccessLog: opts.AccessLog, Sample: opts.Sample, Applications: opts.Applications, Tap: p.tap,
	})
	if err != nil {
		return nil, fmt.Errorf("make telemetry: %w", err)
	}
	p.workloads = workload.NewRegistry()
	if err := p.openSource(); err != nil {
		return nil, err
	}
	if err := p.openAgent(); err != nil {
		return nil, err
	}
	p.ends = mtls.New(p.identities, p.log)
	encrypted := &mtls.Dialer{Dialer: p.dialer, Ends: p.ends, Account: p.identities.Account}
	where, err := zone.Parse(opts.Locality)
	if err != nil {
		return nil, err
	}
	p.clusters = cluster.NewManager(p.log, cluster.Options{Prober: probe.New(p.dialer), Zone: where})
	p.limits = ratelimit.New(p.clusters, p.log)
	p.tracer = trace.New(trace.Options{Clusters: p.clusters, Provider: p.tracing, Node: opts.Node, Logger: p.log})
	p.pool = upstream.NewPool(encrypted, upstream.Limits{MaxFrame: opts.MaxFrame})
	p.env = p.newEnv(encrypted)
	p.quotas = quota.NewNode(opts.MaxTotal, opts.MaxConnections, opts.MaxBuffers)
	p.quotas.Pace(opts.MaxDecoded)
	p.quotas.Fly(opts.MaxInFlight)
	p.listeners = listener.NewSet(listener.Options{
		Serve: func(in *downstream.Accepted, started func(downstream.Live)) {
			downstream.Serve(p.env, in, started)
		},
		Witness: p.dialer.Arrived, Logger: p.log,
		Quotas: p.quotas, Lacks: p.lacks,
		Tight: func() bool { return p.memory.Level() >= overload.Tight },
	})
	p.memory = overload.New(overload.Options{
		Limit: opts.MemoryLimit, Used: opts.MemoryUsed, Heaviest: p.listeners.Heaviest, Logger: p.log,
	})
	if err := errors.Join(p.metrics.Register(p.counters()),
		p.metrics.Register(verdicts.Collector(p.env.Policies.Tally.All)),
		p.metrics.Register(p.identities)); err != nil {
		return nil, fmt.Errorf("register collectors: %w", err)
	}
	return p, nil
}

// newEnv is what all connections share. Dialer makes those to providers.
func (p *Proxy) newEnv(dialer upstream.Dialer) *downstream.Env {
	return &downstream.Env{
		Env: relay.Env{
			Env: plan.Env{
				View: p.sight.Of, Changes: p.sight.Changes, Clusters: p.clusters, Pool: p.pool, Recorder: p.recorder, Tracer: p.tracer,
				Workloads: p.workloads, Stale: &stale.List{}, Inverted: &inverted.List{}, Breakers: &breaker.Breakers{},
				Applications: p.opts.Applications, Lane: verdict.Node{Guarded: p.guarded, Tapped: p.tap.Bodies},
				Policies: new(filter.Policies), Modes: new(mode.Table), Identities: p.identities,
			},
			Dialer: dialer, Logger: p.log, PassUnknown: p.opts.Unknown != handoff.UnknownRefuse,
		},
		Protocols: codec.Set{seam.Protocol(), thrift.Protocol()},
		Tap:       p.tap, Mirror: &mirror.Mirror{}, Asker: p.limits, MaxFrame: p.opts.MaxFrame,
		Ends: p.ends, Lanes: p.riders,
	}
}

// Run runs until ctx ends, then drains: no new connections, pending requests
// get their answers or, after Options.Drain, one error each.
func (p *Proxy) Run(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 11)
	run := func(what string, f func(context.Context) error) {
		go func() {
			if err := f(serving); err != nil && serving.Err() == nil {
				failed <- fmt.Errorf("%s: %w", what, err)
			}
		}()
	}
	// Before the agent hands over listeners: what waits in their backlogs is
	// routed by a snapshot from the first connection on.
	p.source.Reload()
	followed := make(chan struct{})
	run("follow xds", func(ctx context.Context) error {
		defer close(followed)
		return p.source.Run(ctx)
	})
	run("watch connections", p.listeners.Run)
	run("watch memory", p.memory.Run)
	run("watch lanes", p.riders.Run)
	run("count lanes", p.tally.Run)
	run("follow agent", p.followAgent)
	run("publish destinations", p.publishDestinations)
	run("serve admin", func(ctx context.Context) error {
		return admin.Serve(ctx, admin.ProxySocket(p.opts.StateDir), p.adminHandler(), p.log)
	})
	run("serve metrics", func(ctx context.Context) error {
		return serveHTTP(ctx, p.opts.MetricsAddress, p.metricsHandler())
	})
	run("serve health", func(ctx context.Context) error {
		return serveHTTP(ctx, p.opts.HealthAddress, p.healthHandler())
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	p.drain()
	stop()
	<-followed // what came last is kept by then
	return errors.Join(err, p.recorder.Close())
}

// drain ends the proxy without leaving a request unanswered.
func (p *Proxy) drain() {
	p.log.Info("draining", "limit", p.opts.Drain)
	p.env.Stopping.Store(true)
	p.listeners.Shut()
	if !p.listeners.Wait(p.opts.Drain) {
		p.log.Warn("requests still pending at the end of the drain are refused")
	}
	p.riders.Close()
	p.pool.Close()
	p.listeners.Wait(time.Second)
	p.dialer.Close()
	p.limits.Close()
	p.tracer.Close()
	p.clusters.Close()
	p.identities.Close()
	p.agent.Close()
	p.tally.Use(nil)
	if err := p.lanes.Close(); err != nil {
		p.log.Warn("close lanes", "error", err)
	}
}

// apply makes workloads see what the source says at the moment. Clusters that are new are
// there before a route leads to them, and those that are gone stay until none does.
func (p *Proxy) apply() {
	p.applying.Lock()
	defer p.applying.Unlock()
	views := p.source.Seen()
	all := apart.Of(snapshot.Of(views))
	p.clusters.Prepare(all...)
	before := p.sight.Put(views)
	p.regard(before)
	p.riders.Look()
	p.clusters.Update(all...)
	p.limits.Keep(all...)
	p.tracer.Keep(all...)
	if policed := apart.Policed(all); !slices.Equal(policed, p.policed) {
		p.env.Policies.Keep(all...)
		p.policed = policed
	}
	p.generation.Add(1)
	p.askPublish()
}

// wayChanged makes connections follow a witness that came or went.
func (p *Proxy) wayChanged(workload string, endpoint netip.AddrPort) {
	p.pool.Rotate(func(k upstream.Key) bool {
		return k.Workload == workload && k.Endpoint == endpoint && !k.Inbound
	})
	p.riders.Leave(workload, endpoint)
}

// serveHTTP serves until ctx ends.
func serveHTTP(ctx context.Context, address string, h http.Handler) error {
	if address == "" {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", address, err)
	}
	return nil
}
