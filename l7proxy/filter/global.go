package filter

import (
	"iter"
	"math/bits"

	"github.com/dubway/dubway/l7proxy/filter/global"
	"github.com/dubway/dubway/l7proxy/filter/rate"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// asked is a global rate limit as it holds at a place.
type asked struct {
	filter *snapshot.Global
	domain string
	rates  []snapshot.Rate
	needs  snapshot.Needs // of rates
}

// globals lists those that hold at the place and that a rate of it may ask about, in
// their order.
func (at Place) globals() iter.Seq[asked] {
	return func(yield func(asked) bool) {
		if at.Listener == nil || at.Route == nil || at.Route.Policies == nil {
			return // nothing describes a request
		}
		own := at.Route.Policies
		for _, g := range at.Listener.Globals {
			one := asked{g, g.Domain, own.Rates, own.Needs}
			if over := own.Globals[g.Name]; over != nil {
				if over.Domain != "" {
					one.domain = over.Domain
				}
				if len(over.Rates) > 0 {
					one.rates, one.needs = over.Rates, over.Needs
				}
			}
			if g.Enabled > 0 && describes(one.rates, g.Stage) && !yield(one) {
				return
			}
		}
	}
}

func describes(rates []snapshot.Rate, stage uint32) bool {
	for i := range rates {
		if rates[i].Stage == stage {
			return true
		}
	}
	return false
}

// Questions lists what services are to be asked about a request that Limit lets pass:
// nothing by a filter whose rates do not describe it.
func (at Place) Questions(s *subject.Subject) []global.Question {
	var list []global.Question
	for one := range at.globals() {
		// Other bits than those by which limits decide for which requests they are.
		if !snapshot.Hit(one.filter.Enabled, bits.RotateLeft64(s.Random, 16)) {
			continue
		}
		if d := rate.Describe(one.rates, one.filter.Stage, s); len(d) > 0 {
			list = append(list, global.Question{
				Filter: one.filter, Domain: one.domain, Descriptors: d, Observed: s.Observe,
				Enforced: snapshot.Hit(one.filter.Enforced, bits.RotateLeft64(s.Random, 48)),
				Deny:     snapshot.Hit(one.filter.Denied, bits.RotateLeft64(s.Random, 24)),
			})
		}
	}
	return list
}

// Answered counts the answer to a question, and tells why the request is refused:
// WhyNone, if it is not.
func (p *Policies) Answered(q *global.Question, a global.Answer) rpc.Why {
	refused, counted := q.Refuses(a)
	for _, d := range counted {
		p.Tally.Global(q.Filter, d).Add()
	}
	switch {
	case !refused:
		return rpc.WhyNone
	case a == global.OverLimit:
		return rpc.WhyLimited
	}
	return rpc.WhyLimitUnknown
}
