package snapshot

import "time"

// Outlier is outlier_detection: when an endpoint that fares badly is left alone, and
// for how long. Defaults are filled in; all counts are of one cluster on this node.
type Outlier struct {
	// Interval is the time between two looks at the rates.
	Interval time.Duration
	// An ejection lasts BaseEjection times the number of recent ejections, MaxEjection
	// at most, and up to MaxJitter longer.
	BaseEjection, MaxEjection, MaxJitter time.Duration
	// MaxEjected is the share of the cluster's endpoints that may be ejected, in
	// percent. AlwaysOne allows one whatever the share.
	MaxEjected uint32
	AlwaysOne  bool
	// Split says that failures seen from here (no connection, reset, timeout) count
	// for themselves; otherwise they count as a gateway's 503 and 504.
	Split bool
	// Failures, those of a gateway, and with Split those seen from here, in a row.
	Errors, Unavailable, Local Consecutive
	SuccessRate                SuccessRate
	FailurePercentage          FailurePercentage
	// KeepOnCheck says that a passed active health check does not end an ejection.
	KeepOnCheck bool
}

// Consecutive ejects after Threshold failures in a row, in Enforced percent of the
// cases. A Threshold of 0 never does.
type Consecutive struct {
	Threshold, Enforced uint32
}

// SuccessRate ejects an endpoint whose rate of success in one interval is lower than
// the mean of all by Factor thousandths of their standard deviation. It looks at
// endpoints with Volume requests, if there are Hosts such endpoints.
type SuccessRate struct {
	Hosts, Volume, Factor   uint32
	Enforced, EnforcedLocal uint32 // percent of the cases
}

// FailurePercentage ejects an endpoint of whose requests in one interval Threshold
// percent or more failed. Hosts and Volume are as in SuccessRate.
type FailurePercentage struct {
	Hosts, Volume, Threshold uint32
	Enforced, EnforcedLocal  uint32 // percent of the cases
}

// Check is an active health check: what is asked of every endpoint, how often, and
// how many answers count. Defaults are filled in.
type Check struct {
	Probe   Probe
	Timeout time.Duration
	// Interval is the time between two checks of an endpoint; the others follow a
	// check that changed its state, and a failed one of an endpoint that is out.
	Interval, HealthyEdge, UnhealthyEdge, Unhealthy time.Duration
	// The first check comes InitialJitter later at most, every other one up to Jitter
	// plus JitterPercent of the interval.
	InitialJitter, Jitter time.Duration
	JitterPercent         uint32
	// Fails and Passes in a row put an endpoint out and in.
	Fails, Passes uint32
}

// Probe is the question of a Check.
type Probe struct {
	Kind ProbeKind
	Port uint16 // instead of the endpoint's; 0: the endpoint's
	// Send and Receive are of ProbeTCP: what is written, and what must come in this
	// order, anything between. Without both a connection is enough.
	Send    []byte
	Receive [][]byte
	// Interface, Version and Group are of ProbeEcho.
	Interface, Version, Group string
}

// ProbeKind tells what a Probe asks.
type ProbeKind uint8

// The kinds.
const (
	ProbeTCP       ProbeKind = iota
	ProbeHeartbeat           // Dubbo's: the process reads and writes
	ProbeEcho                // Dubbo's $echo: the interface is exported, and a thread answers
)
