package l7proxy

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/version"
	"github.com/dubway/dubway/l7proxy/decision"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/dump"
)

// adminHandler answers the operators' questions.
func (p *Proxy) adminHandler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET "+admin.PathStatus, func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, p.status()) })
	m.HandleFunc("GET "+admin.PathWorkloads, func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, p.pods()) })
	m.HandleFunc("GET "+admin.PathRoutes, func(w http.ResponseWriter, _ *http.Request) {
		list := routesOf(p.sight.Views(), p.generation.Load())
		list.Names = p.names()
		admin.WriteJSON(w, list)
	})
	m.HandleFunc("GET "+admin.PathLanes, func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, p.laneList()) })
	m.HandleFunc("GET "+admin.PathClusters, func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, clusterList(p.clusters)) })
	m.HandleFunc("GET "+admin.PathMode, func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, p.modes()) })
	m.HandleFunc("POST "+admin.PathMode, p.setMode)
	m.HandleFunc("POST "+admin.PathExplain, p.explain)
	m.Handle("GET "+admin.PathDump, dump.Handler(p.dumped))
	m.Handle(admin.PathAccessLog, p.recorder.AccessLogHandler())
	m.Handle("POST "+admin.PathTap, p.tap.TapHandler(p.opts.TapBodies, p.log))
	m.Handle("POST "+admin.PathTop, p.tap.TopHandler())
	m.Handle("GET "+admin.PathMetrics, p.metricsHandler())
	return m
}

func (p *Proxy) metricsHandler() http.Handler {
	return p.counted(p.recorder.Handler(p.metrics, admin.NewClient(admin.AgentSocket(p.opts.StateDir)), p.log))
}

// healthHandler says ready when the proxy knows its pods and its routes, and accepts or
// has left that to a newer one.
func (p *Proxy) healthHandler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /healthz/live", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	m.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case !p.connected.Load():
			http.Error(w, "not connected to dubway-agent", http.StatusServiceUnavailable)
		case !p.configured():
			http.Error(w, "no configuration yet", http.StatusServiceUnavailable)
		case !p.accepted.Load():
			http.Error(w, "the proxy of another agent accepts, until ours takes over from it", http.StatusServiceUnavailable)
		case p.env.Stopping.Load():
			http.Error(w, "draining", http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusOK)
		}
	})
	return m
}

// configured tells whether there is anything that holds, or nobody for whom it would.
func (p *Proxy) configured() bool {
	views := p.sight.Views()
	told := func(v snapshot.View) bool { return v.Snapshot.Generation > 0 }
	return slices.ContainsFunc(views, told) || p.control != nil && len(views) == 0
}

func (p *Proxy) status() admin.ProxyStatus {
	s := admin.ProxyStatus{
		APIVersion: admin.APIVersion,
		Process: admin.Process{
			Release: version.Version, PID: os.Getpid(), UID: os.Getuid(), Started: p.started, Node: p.opts.Node,
			Uptime: time.Since(p.started).Round(time.Second).String(), Capabilities: Capabilities(),
		},
		AgentConnected: p.connected.Load(), Generation: p.generation.Load(), Source: p.sourceName(),
		Snapshot: size(snapshot.Of(p.sight.Views())...), Rejections: []admin.Rejection{}, Workloads: len(p.workloads.All()),
		Connections: admin.Connections{
			Downstream: int(p.listeners.Stats().Active.Load()), Upstream: p.pool.Count(),
		},
		AccessLog: p.recorder.Sample() > 0,
	}
	s.ControlPlane, s.Collectors = p.controlPlane(), p.collectors()
	s.Problems = append(s.Problems, s.ControlPlane.Problems()...)
	s.Problems = append(s.Problems, p.tracer.Problems()...)
	memory := p.memory.State()
	s.Memory = admin.Memory{Used: memory.Used, Limit: memory.Limit, Level: memory.Level.String(), Shed: memory.Shed}
	for _, name := range memory.Shed {
		s.Problems = append(s.Problems, "memory is nearly used up: requests of "+name+" are refused")
	}
	for _, a := range p.env.Stale.All() {
		s.StaleAddresses = append(s.StaleAddresses, admin.StaleAddress{
			Address: a.Key.Address.String(), Interface: a.Key.Interface, Consumer: a.Key.Consumer, Count: a.Count, Last: a.Last,
		})
	}
	for _, a := range p.env.Inverted.All() {
		s.InvertedTimeouts = append(s.InvertedTimeouts, admin.InvertedTimeout{
			Consumer: a.Key.Consumer, Interface: a.Key.Interface, Method: a.Key.Method, Route: a.Key.Route,
			RouteMillis: a.Key.Allows.Milliseconds(), ConsumerMillis: a.Key.Waits.Milliseconds(), Count: a.Count, Last: a.Last,
		})
	}
	s.Identities = p.identities.List()
	for i := range s.Identities {
		if problem := s.Identities[i].Problem(time.Now()); problem != "" {
			s.Problems = append(s.Problems, problem)
		}
	}
	s.Problems = append(s.Problems, p.ends.Problems()...)
	for _, r := range p.rejected() {
		s.Rejections = append(s.Rejections, admin.Rejection{
			File: r.File, Kind: r.Kind, Name: r.Name, Field: r.Field, Reason: r.Reason,
		})
	}
	return s
}

// size counts what is in snapshots together.
func size(all ...*snapshot.Snapshot) (n admin.SnapshotSize) {
	for _, s := range all {
		n.Listeners += len(s.Listeners) + len(s.Inbounds)
		n.Routes += len(s.Routes)
		n.Clusters += len(s.Clusters)
		for _, c := range s.Clusters {
			for _, l := range c.Localities {
				n.Endpoints += len(l.Endpoints)
			}
		}
	}
	return n
}

// pods tells what the proxy knows of the pods.
func (p *Proxy) pods() admin.WorkloadList {
	list := admin.WorkloadList{APIVersion: admin.APIVersion, Items: []admin.WorkloadStatus{}}
	for _, w := range p.workloads.All() {
		s := admin.WorkloadStatus{
			UID: w.UID, Name: w.Name, Namespace: w.Namespace, Ports: w.Ports, Labels: w.Labels,
			ServiceAccount: w.ServiceAccount, NetnsCookie: w.NetnsCookie, Enrolled: true,
			Connections: admin.Connections{Downstream: int(p.listeners.Active(w.UID))},
		}
		for _, a := range w.Addresses {
			s.Addresses = append(s.Addresses, a.String())
		}
		list.Items = append(list.Items, s)
	}
	return list
}

// errNoView: each workload sees something else.
var errNoView = errors.New("a control plane tells workloads different things: say whose call it is by --from")

func (p *Proxy) explain(w http.ResponseWriter, r *http.Request) {
	var q admin.ExplainRequest
	if err := admin.ReadJSON(r, &q); err != nil {
		admin.WriteError(w, http.StatusBadRequest, err)
		return
	}
	caller, views := decision.Caller{Consumer: &subject.Consumer{Principal: q.Principal}, Unknown: p.opts.Unknown}, p.sight.Views()
	if len(views) == 0 || q.From == "" && len(views) > 1 {
		admin.WriteError(w, http.StatusBadRequest, errNoView)
		return
	}
	seen := views[0].Snapshot
	if q.From != "" {
		from := p.workloads.ByUID(p.pod(q.From))
		if from == nil {
			admin.WriteError(w, http.StatusNotFound, fmt.Errorf("no enrolled workload is called %q", q.From))
			return
		}
		caller.Consumer = p.env.Book().Own(from.Peer, from.Peer.Address)
		caller.Namespace, caller.Own = from.Namespace, from.Addresses
		seen = p.sight.Now(from.UID)
	}
	answer, err := decision.Explain(seen, q, caller)
	if err != nil {
		admin.WriteError(w, http.StatusBadRequest, err)
		return
	}
	admin.WriteJSON(w, answer)
}

// pod finds the UID of a workload by UID, namespace/name or name.
func (p *Proxy) pod(name string) string {
	for _, w := range p.workloads.All() {
		if name == w.UID || name == w.Namespace+"/"+w.Name || name == w.Name {
			return w.UID
		}
	}
	return ""
}

// Explain tells what would become of a call under a snapshot, whoever it comes from.
func Explain(s *snapshot.Snapshot, q admin.ExplainRequest) (admin.Explanation, error) {
	from := decision.Caller{Consumer: &subject.Consumer{Principal: q.Principal}, Unknown: handoff.UnknownRefuse}
	return decision.Explain(s, q, from)
}
