// Package rbac judges who may connect and who may call, by Envoy's RBAC rules. What
// cannot be read is neither true nor false (condition.Unknown), so that each action
// fails closed: an ALLOW policy must certainly match, a DENY policy matches unless it
// certainly does not. It neither refuses nor counts: package filter does.
package rbac

import (
	"github.com/dubway/dubway/l7proxy/condition"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// None is the index of no policy.
const None = -1

// Decision is what rules make of a subject.
type Decision struct {
	Denied bool
	Policy int // the first in Rules.Policies that matches, or None
}

// Judge holds a subject against rules. It allocates nothing and may be called by
// any goroutine for a subject of its own.
func Judge(rules *snapshot.Rules, s *subject.Subject) Decision {
	d := Decision{Policy: None}
	for i := range rules.Policies {
		if matches(rules.Action, &rules.Policies[i], s) {
			d.Policy = i
			break
		}
	}
	switch rules.Action {
	case snapshot.RBACAllow:
		d.Denied = d.Policy == None
	case snapshot.RBACDeny:
		d.Denied = d.Policy != None
	case snapshot.RBACLog:
	}
	return d
}

// matches tells whether a policy counts as matching: of a doubt the caution of its
// action has the benefit.
func matches(action snapshot.RBACAction, p *snapshot.RBACPolicy, s *subject.Subject) bool {
	truth := holds(&p.Permission, s)
	if truth != condition.False {
		truth = min(truth, holds(&p.Principal, s))
	}
	if action == snapshot.RBACAllow {
		return truth == condition.True
	}
	return truth != condition.False
}

// holds is Kleene's logic: and is the least of its terms, or the greatest.
func holds(t *snapshot.Term, s *subject.Subject) condition.Truth {
	switch t.Kind {
	case snapshot.TermNever:
	case snapshot.TermAny:
		return condition.True
	case snapshot.TermAnd:
		truth := condition.True
		for i := range t.Terms {
			if truth = min(truth, holds(&t.Terms[i], s)); truth == condition.False {
				break
			}
		}
		return truth
	case snapshot.TermOr:
		truth := condition.False
		for i := range t.Terms {
			if truth = max(truth, holds(&t.Terms[i], s)); truth == condition.True {
				break
			}
		}
		return truth
	case snapshot.TermNot:
		return holds(&t.Terms[0], s).Not()
	case snapshot.TermHeader:
		return s.Holds(t.Header)
	case snapshot.TermPrincipal:
		principal := condition.Text{s.Consumer.Principal}
		return condition.Of(principal.Len() > 0 && condition.Compare(&principal, t.Header))
	case snapshot.TermSource:
		return condition.Of(t.Prefix.Contains(s.Consumer.Address))
	case snapshot.TermDestination:
		return condition.Of(t.Prefix.Contains(s.Destination.Addr()))
	case snapshot.TermDestinationPort:
		return condition.Of(t.Min <= s.Destination.Port() && s.Destination.Port() <= t.Max)
	}
	return condition.False
}
