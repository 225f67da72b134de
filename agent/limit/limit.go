// Package limit is what the agent lets a proxy have of the network, whoever may have taken
// the proxy over: where it never dials to, and how often it dials.
package limit

import (
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"

	"github.com/dubway/dubway/internal/handoff"
)

// What a proxy may ask for each workload: enough for thousands of connections
// that come at once after a restart, too little to scan a network with.
const (
	dialsPerSecond = 1000
	dialBurst      = 4096

	// DialsOutstanding are how many dials of a workload may be waiting at once.
	DialsOutstanding = 2048
)

// forbidden are ranges that no proxy reaches through the agent, whatever the
// pod's routes say.
var forbidden = []struct {
	prefix netip.Prefix
	why    string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	// Instance metadata that some clouds serve outside of the link-local ranges:
	// credentials of the node for whoever asks.
	{netip.MustParsePrefix("100.100.100.200/32"), "instance metadata"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), "instance metadata"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "instance metadata"},
}

// translated are IPv6 ranges that carry an IPv4 address, and the byte at which
// it begins: a translator on the way would take the packet there.
var translated = []struct {
	prefix netip.Prefix
	offset int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // RFC 6052
	{netip.MustParsePrefix("2002::/16"), 2},     // RFC 3056
	{netip.MustParsePrefix("::/96"), 12},        // RFC 4291, deprecated
}

// Denied tells why no pod is dialled for at an address, "" if it may be; node are the
// node's own.
func Denied(a netip.Addr, node map[netip.Addr]bool) string {
	a = a.Unmap().WithZone("")
	for _, f := range forbidden {
		if f.prefix.Contains(a) {
			return f.why
		}
	}
	if node[a] {
		return "an address of the node"
	}
	for _, t := range translated {
		if t.prefix.Contains(a) {
			b := a.As16()
			inner := netip.AddrFrom4([4]byte(b[t.offset : t.offset+4]))
			if why := Denied(inner, node); why != "" {
				return why + " in another form"
			}
		}
	}
	return ""
}

// Quota limits the dials of each workload, so that one pod's connections do not
// cost another's. Safe for concurrent use.
type Quota struct {
	mu    sync.Mutex
	pods  map[string]*share
	rate  rate.Limit
	burst int
	most  int // outstanding
}

type share struct {
	limiter     *rate.Limiter
	outstanding int
}

// NewQuota makes a Quota of the limits above.
func NewQuota() *Quota {
	return &Quota{pods: make(map[string]*share), rate: dialsPerSecond, burst: dialBurst, most: DialsOutstanding}
}

// Take counts one dial as begun, or refuses it.
func (q *Quota) Take(uid string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.pods[uid]
	if s == nil {
		s = &share{limiter: rate.NewLimiter(q.rate, q.burst)}
		q.pods[uid] = s
	}
	switch {
	case s.outstanding >= q.most:
		return &handoff.DialError{Code: handoff.DialExhausted,
			Text: fmt.Sprintf("%d dials of this workload are outstanding", s.outstanding)}
	case !s.limiter.Allow():
		return &handoff.DialError{Code: handoff.DialExhausted,
			Text: fmt.Sprintf("more than %v dials a second for this workload", float64(q.rate))}
	}
	s.outstanding++
	return nil
}

// Give counts one dial as ended.
func (q *Quota) Give(uid string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.pods[uid]; s != nil {
		s.outstanding--
	}
}

// Forget drops the shares of workloads that enrolled does not know and that have
// nothing outstanding.
func (q *Quota) Forget(enrolled func(uid string) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for uid, s := range q.pods {
		if s.outstanding == 0 && !enrolled(uid) {
			delete(q.pods, uid)
		}
	}
}

// Outstanding returns how many dials of a workload have begun and not ended.
func (q *Quota) Outstanding(uid string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.pods[uid]; s != nil {
		return s.outstanding
	}
	return 0
}
