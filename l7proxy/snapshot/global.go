package snapshot

import "time"

// Global is a global rate limit filter: a service is asked whether a request is over a
// limit that all who ask share. Its pointer is an identity, as that of Limit is.
type Global struct {
	Name    string // the filter's, by which a route changes it
	Prefix  string // its stat prefix
	Domain  string
	Stage   uint32 // of the rates that describe requests
	Service RateService
	// Timeout is how long a request waits for the answer.
	Timeout time.Duration
	// Enabled is the share of requests that are asked about, Enforced that of those which
	// are refused when over the limit, and Denied that of those which are refused when
	// the service cannot tell; in millionths.
	Enabled, Enforced, Denied uint32
}

// RateService is who is asked.
type RateService struct {
	Cluster   string // whose endpoints serve envoy.service.ratelimit.v3
	Authority string // "": made of the cluster's name
}

// GlobalRoute is what a route says in place of a Global and of its own rates.
type GlobalRoute struct {
	Domain string // "": the filter's
	Rates  []Rate // none: the route's
	Needs  Needs  // of Rates
}
