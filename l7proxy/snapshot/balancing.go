package snapshot

import "time"

// Hashing is what RingHash and Maglev need besides the endpoints.
type Hashing struct {
	MinRing, MaxRing uint64 // points of the ring
	TableSize        uint64 // of maglev; a prime
	// ByHostname hashes an endpoint's name, where it has one, and not its address.
	ByHostname bool
}

// HashPolicy is one part of a request that is hashed.
type HashPolicy struct {
	// SourceIP is the consumer's address. Otherwise Source, Name and Index say what,
	// as in HeaderMatch.
	SourceIP bool
	Source   Source
	Name     string
	Index    int
	// Terminal ends the list if there is a hash by then.
	Terminal bool
}

// SlowStart is how the share of an endpoint grows that has become fit: its weight is
// multiplied by (time / Window) ^ (1 / Aggression), Least at least.
type SlowStart struct {
	Window     time.Duration
	Aggression float64 // more than 0
	Least      float64 // from 0 to 1
}

// ZoneAware is zone_aware_lb_config: requests stay in the proxy's own zone as far as
// the zone's share of the endpoints allows.
type ZoneAware struct {
	Enabled float64 // from 0 to 1: the share of requests that this is for
	// MinSize is the number of healthy endpoints below which it does not apply.
	MinSize uint64
	// FailOnPanic chooses nobody where otherwise panic would choose among all.
	FailOnPanic bool
}
