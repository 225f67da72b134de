// Package names says which names from the wire may be label values: interfaces and
// methods that a provider has confirmed by an answer, and classes of exceptions that
// providers answered with, within a budget. It makes no series.
package names

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
	Other   = "other"
	Unknown = "unknown"
	None    = "-"
)

// Excess tells whose budget a name has exceeded.
type Excess uint8

// The budgets.
const (
	Within Excess = iota
	OverInterfaces
	OverMethods
	numBudgets
)

// Verdict is how an interface and a method are labelled.
type Verdict struct {
	Interface, Method string
	// Final says that the verdict will not change: the names are admitted, or
	// they never will be.
	Final bool
	Over  Excess
}

// Names admits interfaces and methods to label values. Names come from
// consumers, who may invent them; so a name is admitted when a provider answered
// it, and "other" until then. Safe for concurrent use.
type Names struct {
	interfaces, methods int

	mu       sync.RWMutex
	admitted map[string]map[string]bool

	exceeded [numBudgets]atomic.Uint64
}

// New returns Names that admits so many interfaces, and of each so many methods.
func New(interfaces, methods int) *Names {
	return &Names{interfaces: interfaces, methods: methods, admitted: make(map[string]map[string]bool)}
}

// Look returns the present verdict.
func (n *Names) Look(iface, method string) Verdict {
	if iface == "" && method == "" { // undecodable
		return Verdict{Interface: Unknown, Method: Unknown, Final: true}
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	methods, ok := n.admitted[iface]
	switch {
	case ok && methods[method]:
		return Verdict{Interface: Known(iface), Method: Known(method), Final: true}
	case ok:
		return unadmitted(Verdict{Interface: Known(iface), Method: Other}, method, len(methods) >= n.methods, OverMethods)
	default:
		return unadmitted(Verdict{Interface: Other, Method: Other}, iface, len(n.admitted) >= n.interfaces, OverInterfaces)
	}
}

// unadmitted completes the verdict on a name that is not admitted: whether it
// never will be.
func unadmitted(v Verdict, name string, full bool, over Excess) Verdict {
	if full || !labelable(name) {
		v.Final, v.Over = true, over
	}
	return v
}

// Admit returns the verdict on names that got an answer, and takes them in if
// there is room.
func (n *Names) Admit(iface, method string) Verdict {
	if v := n.Look(iface, method); v.Final {
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
	return n.Look(iface, method)
}

// labelable tells whether a name may be a label value. Names that are not UTF-8
// would all look alike once repaired, so they share "other" from the start.
func labelable(name string) bool {
	return len(name) <= maxName && utf8.ValidString(name)
}

// Known returns the label value of a text that may be missing.
func Known(s string) string {
	if s == "" {
		return Unknown
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// Exceed counts requests whose names are beyond a budget.
func (n *Names) Exceed(over Excess, requests uint64) { n.exceeded[over].Add(requests) }

// Exceeded returns how many were counted.
func (n *Names) Exceeded(over Excess) uint64 { return n.exceeded[over].Load() }
