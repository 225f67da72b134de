// Package words has Envoy's words for what a snapshot holds, for people.
package words

import "github.com/dubway/dubway/l7proxy/snapshot"

// Locality returns region/zone/subzone, or its first parts.
func Locality(l *snapshot.Locality) string {
	switch {
	case l.SubZone != "":
		return l.Region + "/" + l.Zone + "/" + l.SubZone
	case l.Zone != "":
		return l.Region + "/" + l.Zone
	}
	return l.Region
}

// Kind is a cluster's type.
func Kind(k snapshot.ClusterKind) string {
	switch k {
	case snapshot.ClusterStatic:
		return "STATIC"
	case snapshot.ClusterEDS:
		return "EDS"
	case snapshot.ClusterStrictDNS:
		return "STRICT_DNS"
	case snapshot.ClusterOriginalDst:
		return "ORIGINAL_DST"
	}
	return "UNKNOWN"
}

// Policy is a load balancing policy.
func Policy(p snapshot.Policy) string {
	switch p {
	case snapshot.RoundRobin:
		return "ROUND_ROBIN"
	case snapshot.Random:
		return "RANDOM"
	case snapshot.LeastRequest:
		return "LEAST_REQUEST"
	case snapshot.RingHash:
		return "RING_HASH"
	case snapshot.Maglev:
		return "MAGLEV"
	}
	return "UNKNOWN"
}
