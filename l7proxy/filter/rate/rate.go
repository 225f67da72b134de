// Package rate describes requests, as the rate_limits of Envoy's routes do: the one
// meaning that their actions have to local and to global limits. It limits nothing.
package rate

import (
	"github.com/dubway/dubway/l7proxy/condition"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Verdict is what an action makes of a request.
type Verdict uint8

// The verdicts.
const (
	Made    Verdict = iota // an entry
	Skipped                // no entry, but the others describe the request without it
	Missing                // none: there is no descriptor
)

// Entry returns the value of the entry that an action makes of a request, whose key is
// the action's. It may alias what the request does. It allocates nothing.
func Entry(a *snapshot.RateAction, s *subject.Subject) (condition.Text, Verdict) {
	switch a.Kind {
	case snapshot.RateGeneric:
		return condition.Text{a.Value}, Made
	case snapshot.RateHeader:
		v, ok := s.Values().Value(&a.Headers[0])
		switch {
		case ok:
			return v, Made
		case a.Absent:
			return v, Skipped
		}
	case snapshot.RateMatch:
		if matches(a.Headers, s) != a.Unless {
			return condition.Text{a.Value}, Made
		}
	case snapshot.RateSourceCluster:
		return condition.Text{s.Consumer.Cluster}, Made
	case snapshot.RateRemoteAddress:
		return condition.Text{s.Consumer.Remote}, Made
	}
	return condition.Text{}, Missing
}

func matches(headers []snapshot.HeaderMatch, s *subject.Subject) bool {
	for i := range headers {
		if !s.Values().Matches(&headers[i]) {
			return false
		}
	}
	return true
}

// Descriptor describes a request. It has an entry at least.
type Descriptor []snapshot.Entry

// Describe lists the descriptors that the rates of a stage make of a request. They are
// copies.
func Describe(rates []snapshot.Rate, stage uint32, s *subject.Subject) []Descriptor {
	var list []Descriptor
	for i := range rates {
		if rates[i].Stage != stage {
			continue
		}
		if d := describe(rates[i].Actions, s); len(d) > 0 {
			list = append(list, d)
		}
	}
	return list
}

func describe(actions []snapshot.RateAction, s *subject.Subject) Descriptor {
	var d Descriptor
	for i := range actions {
		switch value, verdict := Entry(&actions[i], s); verdict {
		case Made:
			d = append(d, snapshot.Entry{Key: actions[i].Key, Value: value.String()})
		case Skipped:
		case Missing:
			return nil
		}
	}
	return d
}
