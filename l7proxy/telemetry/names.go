package telemetry

import (
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// maxName is the longest interface or method that may become a label value, in
// bytes. A name comes from the wire and may be as long as a frame.
const maxName = 256

// The label values that stand for many names, for one that is not known, or
// for none.
const (
	other   = "other"
	unknown = "unknown"
	none    = "-"
)

// excess tells whose budget a name has exceeded.
type excess uint8

const (
	within excess = iota
	overInterfaces
	overMethods
	numBudgets
)

// verdict is how an interface and a method are labelled.
type verdict struct {
	iface, method string
	// final says that the verdict will not change: the names are admitted, or
	// they never will be.
	final bool
	over  excess
}

// names admits interfaces and methods to label values. Names come from
// consumers, who may invent them; so a name is admitted when a provider answered
// it, and "other" until then.
type names struct {
	interfaces, methods int

	mu       sync.RWMutex
	admitted map[string]map[string]bool

	exceeded [numBudgets]atomic.Uint64
}

func newNames(interfaces, methods int) *names {
	return &names{interfaces: interfaces, methods: methods, admitted: make(map[string]map[string]bool)}
}

// look returns the present verdict.
func (n *names) look(iface, method string) verdict {
	if iface == "" && method == "" { // undecodable
		return verdict{iface: unknown, method: unknown, final: true}
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	methods, ok := n.admitted[iface]
	switch {
	case ok && methods[method]:
		return verdict{iface: known(iface), method: known(method), final: true}
	case ok:
		return unadmitted(verdict{iface: known(iface), method: other}, method, len(methods) >= n.methods, overMethods)
	default:
		return unadmitted(verdict{iface: other, method: other}, iface, len(n.admitted) >= n.interfaces, overInterfaces)
	}
}

// unadmitted completes the verdict on a name that is not admitted: whether it
// never will be.
func unadmitted(v verdict, name string, full bool, over excess) verdict {
	if full || !labelable(name) {
		v.final, v.over = true, over
	}
	return v
}

// admit returns the verdict on names that got an answer, and takes them in if
// there is room.
func (n *names) admit(iface, method string) verdict {
	if v := n.look(iface, method); v.final {
		return v
	}
	n.mu.Lock()
	methods, ok := n.admitted[iface]
	if !ok && len(n.admitted) < n.interfaces {
		methods = make(map[string]bool)
		n.admitted[strings.Clone(iface)] = methods
	}
	if methods != nil && len(methods) < n.methods && labelable(method) {
		methods[strings.Clone(method)] = true
	}
	n.mu.Unlock()
	return n.look(iface, method)
}

// labelable tells whether a name may be a label value. Names that are not UTF-8
// would all look alike once repaired, so they share "other" from the start.
func labelable(name string) bool {
	return len(name) <= maxName && utf8.ValidString(name)
}

// known returns the label value of a text that may be missing.
func known(s string) string {
	if s == "" {
		return unknown
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
