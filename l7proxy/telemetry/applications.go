package telemetry

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/rpc"
)

// perConsumer is how many applications one consumer may be.
const perConsumer = 16

// applications admits consumers' own names to label values. A consumer says what
// it likes and no provider confirms it, so each workload has a budget of its
// own: one that invents names takes none from others.
type applications struct {
	max int

	mu       sync.Mutex
	count    int
	admitted map[string]map[string]bool // by consumer
	exceeded atomic.Uint64
}

func newApplications(most int) *applications {
	return &applications{max: most, admitted: make(map[string]map[string]bool)}
}

// look returns the label value of a call's application. Whoever uses it counts
// the requests for which it is "other".
func (a *applications) look(call *rpc.Call) string {
	name := call.Application
	if name == "" {
		return unknown
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	from := consumer(call.Source)
	names := a.admitted[from]
	if names[name] {
		return strings.Clone(name)
	}
	if a.count >= a.max || len(names) >= perConsumer || !labelable(name) {
		return other
	}
	if names == nil {
		names = make(map[string]bool)
		a.admitted[from] = names
	}
	a.count++
	name = strings.Clone(name)
	names[name] = true
	return name
}

// consumer tells whose budget a call uses: a pod whose workload is not known is
// one by its address.
func consumer(p *rpc.Peer) string {
	switch {
	case p == nil:
		return ""
	case p.Workload != "":
		return p.Namespace + "/" + p.Workload
	}
	return p.Address.String()
}
