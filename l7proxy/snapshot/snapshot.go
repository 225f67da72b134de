// Package snapshot is the immutable configuration of the proxy: what xDS said,
// validated and resolved, without Envoy's types. A Snapshot is built once by
// package xds, published by one atomic swap and never changed. It describes;
// router and cluster act on it.
package snapshot

import (
	"net/netip"
	"regexp"
	"sync"
	"time"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
)

// Version is the version of these types, a seam of the design.
const Version = 9

// Snapshot is one consistent configuration.
type Snapshot struct {
	Generation uint64 // grows by one with each published snapshot
	Listeners  []*Listener
	Inbounds   []*Inbound
	Routes     map[string]*RouteConfig // by name
	Clusters   map[string]*Cluster     // by name
	Unknown    Unknown

	index index
}

// Listener says what happens to connections for one destination.
type Listener struct {
	Name   string
	Prefix netip.Prefix // one address, or a range
	Port   uint16       // 0: every port
	// RouteName is the RouteConfiguration that requests are routed by; "" means
	// that the listener has no chain for requests and everything is opaque.
	RouteName string
	// RouteServer is the cluster whose server has that table, Aeraki's; "": it comes from
	// where the listener does.
	RouteServer string
	// Route is Routes[RouteName]; nil while no such resource has been given.
	Route *RouteConfig
	// TCP is where opaque connections go: weighted clusters. Empty: to the
	// original destination.
	TCP []WeightedCluster
	// Gate has the policies on connections that bring requests, TCPGate those on opaque
	// ones. HTTPGate is for opaque ones of HTTP, which a chain for requests means too:
	// it has that chain's policies on requests as well, and so has TCPGate where
	// opaque connections have no chain. Nil: none.
	Gate, HTTPGate, TCPGate *Gate
	// RBAC, Limits, Globals and Faults are the policies on requests, in their order.
	RBAC    []*RBAC
	Limits  []*Limit
	Globals []*Global
	Faults  []*Fault
	// Idle is how long a connection that brings requests may be silent both ways while
	// none is pending, TCPIdle how long an opaque one may. 0: for ever.
	Idle, TCPIdle time.Duration
	// Tracing is what becomes of spans of requests; nil: there are none.
	Tracing *tracing.Tracing
	// Report is what the chain for requests says of their telemetry, TCPReport what the
	// other says of opaque connections'. Nil: nothing.
	Report, TCPReport *report.Rules
}

// RouteConfig is a RouteConfiguration.
type RouteConfig struct {
	Name         string
	VirtualHosts []*VirtualHost
	// IgnorePort is ignore_port_in_host_matching: domains are compared with the
	// authority without its port only. Otherwise with "ip:port" as well.
	IgnorePort bool
	// Static says that the choice of a Route depends on nothing but interface,
	// method, version and authority, so that a caller may cache it: no rule needs
	// an argument or an attachment, group included.
	Static bool
	// Whole says that a route changes requests, delays them, or hashes an argument or an
	// attachment, or puts one into answers: they must be held whole.
	Whole bool
	// Needs is what the policies of its routes need of requests.
	Needs Needs

	domains domains
	settled sync.Once
}

// VirtualHost is a group of routes for some authorities.
type VirtualHost struct {
	Name    string
	Domains []string // lower case; exact, *suffix, prefix*, or *
	Routes  []*Route
}

// Route is a match and where it leads.
type Route struct {
	Name   string // may be empty
	Match  Match
	Action Action
	// Policies is what the route changes of its listener's policies. Nil: nothing.
	Policies *RoutePolicies
	// Origin names the resource and its place, for explain:
	// "routes/provider:20880 virtual_hosts[0].routes[2]".
	Origin string
	// Config is the object of the control plane that the route was made of, by istiod's
	// metadata: "virtual-service shop/orders". "" if it does not say.
	Config string

	catchAll bool // it names no host; as of Settle
}

// PathKind tells how Match.Path is compared with "/<interface>/<method>".
type PathKind uint8

// The path specifiers.
const (
	PathPrefix PathKind = iota
	PathExact
	PathRegex           // full match
	PathSeparatedPrefix // whole segments
)

// Match is a RouteMatch.
type Match struct {
	PathKind   PathKind
	Path       string
	PathRegex  *regexp.Regexp // PathRegex only; anchored
	IgnoreCase bool
	Headers    []HeaderMatch // all must hold
	// Fraction is the share of matching requests that take this route, in
	// millionths; 1,000,000 when the resource names none.
	Fraction uint32
}

// HeaderKind tells how a HeaderMatch compares.
type HeaderKind uint8

// The forms of HeaderMatcher.
const (
	HeaderExact HeaderKind = iota
	HeaderPrefix
	HeaderSuffix
	HeaderContains
	HeaderRegex   // full match
	HeaderRange   // int64 in [Min, Max)
	HeaderPresent // Want says whether it must be there
)

// Source tells where a HeaderMatch finds its value.
type Source uint8

// The sources.
const (
	// SourceName is the Dubbo attribute Name: interface, method, version, :path or
	// :authority; any other name is the attachment of exactly that name.
	SourceName Source = iota
	// SourceAttachment is the attachment Name, whatever it is called and in any
	// case of ASCII letters; of several with such names one must match.
	SourceAttachment
	// SourceArgument is the argument at Index, by its text.
	SourceArgument
)

// HeaderMatch is a HeaderMatcher, or another condition on one value of a request.
type HeaderMatch struct {
	Source              Source
	Name                string
	Index               int // SourceArgument: from 0
	Kind                HeaderKind
	Value               string
	Longer              bool           // prefix and suffix: the value is longer than Value
	Regex               *regexp.Regexp // anchored
	Min, Max            int64
	Want                bool
	IgnoreCase          bool
	Invert              bool
	TreatMissingAsEmpty bool
}

// Action is a RouteAction, or a DirectResponseAction. Clusters is empty only with Direct;
// one entry means a plain cluster. Weights sum to Total, which is never 0 otherwise.
type Action struct {
	Clusters []WeightedCluster
	Total    uint64
	// Direct is what requests get that go nowhere: a direct response. Nil: they go.
	Direct *Abort
	// Subset is metadata_match["envoy.lb"], nil for none.
	Subset Metadata
	// Timeout is how long a request may take, all its tries included, from its last
	// byte to its answer; 0: as long as its consumer waits.
	Timeout time.Duration
	// Retry says which requests are sent again; nil: none.
	Retry *Retry
	// Mirrors are the clusters that get copies of requests.
	Mirrors []Mirror
	// Edits change the attachments of requests, in this order, and Answers those of what
	// providers answer.
	Edits, Answers []Edit
	// Hash is hash_policy: what of a request chooses the endpoint where the cluster's
	// policy is a hash. HashBody says that it needs an attachment or an argument.
	Hash     []HashPolicy
	HashBody bool
}

// Mirror is a cluster that gets copies of a share of a route's requests.
type Mirror struct {
	Cluster  string
	Fraction uint32 // in millionths
}

// WeightedCluster is a cluster's name and its share.
type WeightedCluster struct {
	Cluster string
	Weight  uint32
	Subset  Metadata // joined with Action.Subset by package xds
	// Edits hold for what goes to the cluster, in the action's stead; package xds has
	// joined the action's own. Nil: the action's hold.
	Edits *Edits
}

// Metadata is a flat view of filter_metadata["envoy.lb"]: key to the value's
// canonical JSON ("\"v1\"", "1", "true").
type Metadata map[string]string

// ClusterKind tells where endpoints come from.
type ClusterKind uint8

// The cluster types.
const (
	ClusterStatic ClusterKind = iota
	ClusterEDS
	ClusterStrictDNS
	ClusterOriginalDst
)

// Policy is a load balancing policy.
type Policy uint8

// The policies.
const (
	RoundRobin Policy = iota
	Random
	LeastRequest
	RingHash
	Maglev
)

// Balancing says who chooses the endpoint of a request that comes on a connection
// to a provider's own address. To a service's address it means nothing.
type Balancing uint8

// The choices.
const (
	// BalancingDefault is the caller's choice, unless a route names the host
	// (Snapshot.NamesHost).
	BalancingDefault Balancing = iota
	// BalancingMesh balances each request.
	BalancingMesh
	// BalancingCaller keeps to the provider that the consumer dialled, as long as
	// it is a healthy endpoint of the cluster.
	BalancingCaller
)

// String returns the word that xDS and operators use; "" for the default.
func (b Balancing) String() string {
	switch b {
	case BalancingMesh:
		return "mesh"
	case BalancingCaller:
		return "caller"
	case BalancingDefault:
	}
	return ""
}

// Cluster is a Cluster with its endpoints joined in.
type Cluster struct {
	Name        string
	Kind        ClusterKind
	Policy      Policy
	ChoiceCount uint32 // least request: 2 unless given
	// Bias is active_request_bias of least request: how much requests in flight count.
	Bias float64
	// SlowStart is nil if an endpoint gets its whole share from the beginning.
	SlowStart      *SlowStart
	Hashing        Hashing // ring hash and maglev
	ConnectTimeout time.Duration
	Service        Service
	// Localities in the resource's order; nil while EDS has not answered. An ORIGINAL_DST
	// cluster has some where the control plane knows its providers (a headless service's).
	Localities []*Locality
	// LocalityWeighted: choose a locality by weight first
	// (common_lb_config.locality_weighted_lb_config).
	LocalityWeighted bool
	// ZoneAware is nil if zones are equal. It needs the proxy's own locality.
	ZoneAware *ZoneAware
	// Overprovision is overprovisioning_factor in percent, 140 by default.
	Overprovision uint32
	// PanicThreshold is healthy_panic_threshold in percent, 50 by default.
	PanicThreshold uint32
	Subsets        *Subsets // nil: metadata_match is not honoured by this cluster
	DNSRefresh     time.Duration
	// MaxRequests and MaxConnections bound the requests and the opaque connections that
	// each workload has in flight to the cluster; nil: no bound.
	MaxRequests, MaxConnections *uint32
	// Retries bounds the retries of requests to the cluster.
	Retries RetryBudget
	// Balancing is metadata.filter_metadata["dubway.io"].balancing.
	Balancing Balancing
	// Outlier is nil if endpoints are not judged by how they fare.
	Outlier *Outlier
	// Check is nil if endpoints are not checked.
	Check *Check
	// Sockets say which endpoints are reached by TLS (mutual.Of). Empty: none.
	Sockets []mutual.Socket
}

// Called returns the name, by which those at one address are in order.
func (c *Cluster) Called() string { return c.Name }

// Called returns the name, by which those of one domain are in order.
func (rc *RouteConfig) Called() string { return rc.Name }

// Service is the service that a cluster's name tells of
// ("outbound|20880|v1|provider.shop.svc.cluster.local"), for labels. For other
// names Host is the cluster's name.
type Service struct {
	Host, Name, Namespace string
}

// Subsets is lb_subset_config.
type Subsets struct {
	Fallback  SubsetFallback
	Selectors [][]string // each sorted
	Default   Metadata
}

// SubsetFallback says what a metadata_match without endpoints leads to.
type SubsetFallback uint8

// The fallback policies.
const (
	FallbackNone SubsetFallback = iota
	FallbackAny
	FallbackDefault
)

// Locality is a group of endpoints.
type Locality struct {
	Region, Zone, SubZone string
	Weight                uint32
	Priority              uint32
	Endpoints             []*Endpoint
}

// Endpoint is one provider address.
type Endpoint struct {
	Address  netip.AddrPort // invalid for a DNS name
	Hostname string         // STRICT_DNS: the name to resolve, with Port
	Port     uint16
	Weight   uint32 // 1 unless given
	Healthy  bool   // health_status UNKNOWN, HEALTHY and DEGRADED
	// Draining is health_status DRAINING: not even panic chooses the endpoint while
	// there is another.
	Draining bool
	Metadata Metadata
	// Socket is filter_metadata["envoy.transport_socket_match"], which a cluster's Sockets
	// are compared with. It may be shared.
	Socket Metadata
	// Workload is what Istio's endpoint metadata says of the pod, for labels:
	// "workload;namespace;canonical service;revision;cluster" split.
	Workload, Namespace, App, Revision string
}
