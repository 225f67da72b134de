// Package budget bounds the label values that consumers choose: their own names, and the
// values of their requests that the configuration makes labels. A consumer says what it
// likes and no provider confirms it, so each has a budget of its own: one that invents
// values takes none from others.
package budget

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/dubway/dubway/l7proxy/rpc"
)

// MaxValue is the longest value that may be a label's, in bytes.
const MaxValue = 256

// Other stands for the values beyond a budget, Unknown for one that is missing.
const (
	Other   = "other"
	Unknown = "unknown"
)

// owner is whose budget a value uses: a consumer's workload, or the address of one that
// has none, for values of one attribute.
type owner struct {
	namespace, name, of string
	address             netip.Addr
}

// Values admits values. Safe for concurrent use.
type Values struct {
	all, each int

	mu       sync.RWMutex
	count    int
	admitted map[owner]map[string]string // to themselves
	exceeded atomic.Uint64
}

// New returns Values that admits so many, and of each consumer and attribute each.
func New(all, each int) *Values {
	return &Values{all: all, each: each, admitted: make(map[owner]map[string]string)}
}

// The budgets of Tags: values of the node, those of one attribute of a consumer, and the
// different ones of all tags of a metric together.
const (
	allTags      = 1000
	perAttribute = 50
	perMetric    = 200
)

// Tags admits what requests say of themselves in labels that the configuration adds. Safe
// for concurrent use.
type Tags struct{ one, together *Values }

// NewTags returns Tags with nothing admitted.
func NewTags() *Tags {
	return &Tags{one: New(allTags, perAttribute), together: New(allTags, perMetric)}
}

// Value is Look, and counts what is Other.
func (t *Tags) Value(from *rpc.Peer, of, value string) string {
	got := t.one.Look(from, of, value)
	if got == Other {
		t.one.Exceed(1)
	}
	return got
}

// Fits tells whether there is room for several values together, which multiply series: all
// of them are known, or are from now on.
func (t *Tags) Fits(from *rpc.Peer, of, values string) bool {
	return t.together.find(from, of, values) != Other
}

// Exceeded returns how often Value returned Other.
func (t *Tags) Exceeded() uint64 { return t.one.Exceeded() }

// Exceeded returns how many Exceed counted.
func (v *Values) Exceeded() uint64 { return v.exceeded.Load() }

// Exceed counts requests whose value is Other.
func (v *Values) Exceed(requests uint64) { v.exceeded.Add(requests) }

// Look returns the label value that stands for a value of an attribute of a consumer, nil
// if that is not known: itself, Other or Unknown. It aliases nothing of the caller's, and
// allocates when a value is new.
func (v *Values) Look(from *rpc.Peer, of, value string) string {
	switch {
	case value == "":
		return Unknown
	case len(value) > MaxValue || !utf8.ValidString(value):
		return Other
	}
	return v.find(from, of, value)
}

func (v *Values) find(from *rpc.Peer, of, value string) string {
	who := owner{of: of}
	switch {
	case from == nil:
	case from.Workload != "":
		who.namespace, who.name = from.Namespace, from.Workload
	default:
		who.address = from.Address
	}
	v.mu.RLock()
	known, ok := v.admitted[who][value]
	full := v.count >= v.all || len(v.admitted[who]) >= v.each
	v.mu.RUnlock()
	switch {
	case ok:
		return known
	case full:
		return Other
	}
	return v.admit(who, strings.Clone(value))
}

func (v *Values) admit(who owner, value string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	values := v.admitted[who]
	if known, ok := values[value]; ok {
		return known
	}
	if v.count >= v.all || len(values) >= v.each {
		return Other
	}
	if values == nil {
		values = make(map[string]string)
		v.admitted[who] = values
	}
	v.count++
	values[value] = value
	return value
}
