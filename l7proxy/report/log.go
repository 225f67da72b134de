package report

import (
	"math"
	"slices"
	"strings"
	"time"
)

// Log says which calls get a line: those that one of the expressions holds of.
type Log struct{ Any []Expression }

// Facts are what an expression may ask of a call that ended.
type Facts struct {
	// Code is the HTTP status that says what the end of the call does; 0: no answer.
	Code     int64
	Duration time.Duration
	Flags    string // Envoy's response flags, joined by commas; "-": none
	Cluster  string
	Route    string
	Holds    uint64 // of Side
}

// Kind tells what an expression is.
type Kind uint8

// The kinds.
const (
	Always Kind = iota
	Not         // not Of[0]
	And
	Or
	Code    // the code is from Min to Max
	Millis  // the duration is from Min to Max, in milliseconds
	Flag    // the call has one of Texts, or with none of them any flag
	Cluster // the cluster is Texts[0]
	Route   // the route is Texts[0]
	Holds   // the rules' condition of number Min
)

// Expression is a condition on a call that ended.
type Expression struct {
	Kind     Kind
	Of       []Expression
	Min, Max int64
	Texts    []string
}

// Wants tells whether a call gets a line.
func (l *Log) Wants(f *Facts) bool {
	for i := range l.Any {
		if l.Any[i].Holds(f) {
			return true
		}
	}
	return false
}

// Durations are such that any other duration is judged as one of them is: of calls that
// differ in nothing else.
func (l *Log) Durations() []time.Duration {
	all := []time.Duration{0}
	var add func(list []Expression)
	add = func(list []Expression) {
		for i := range list {
			if e := &list[i]; e.Kind == Millis {
				all = append(all, milliseconds(e.Min), milliseconds(e.Max), milliseconds(e.Max)+time.Millisecond)
			}
			add(list[i].Of)
		}
	}
	add(l.Any)
	return all
}

// milliseconds is a number of them, or as many as there can be.
func milliseconds(n int64) time.Duration {
	const most = math.MaxInt64/int64(time.Millisecond) - 1
	return time.Duration(min(max(n, 0), most)) * time.Millisecond
}

// Holds tells whether an expression holds of one call.
func (e *Expression) Holds(f *Facts) bool {
	switch e.Kind {
	case Always:
		return true
	case Not:
		return !e.Of[0].Holds(f)
	case And, Or:
		for i := range e.Of {
			if e.Of[i].Holds(f) == (e.Kind == Or) {
				return e.Kind == Or
			}
		}
		return e.Kind == And
	case Code:
		return e.Min <= f.Code && f.Code <= e.Max
	case Millis:
		ms := f.Duration.Milliseconds()
		return e.Min <= ms && ms <= e.Max
	case Flag:
		return e.flagged(f.Flags)
	case Cluster:
		return f.Cluster == e.Texts[0]
	case Route:
		return f.Route == e.Texts[0]
	case Holds:
		return f.Holds&(1<<e.Min) != 0
	}
	return false
}

func (e *Expression) flagged(flags string) bool {
	if len(e.Texts) == 0 {
		return flags != "-"
	}
	for rest := flags; rest != ""; {
		var one string
		one, rest, _ = strings.Cut(rest, ",")
		if slices.Contains(e.Texts, one) {
			return true
		}
	}
	return false
}
