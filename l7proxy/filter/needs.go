package filter

import (
	"slices"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Needs is what the policies of a place want to read of a request.
type Needs struct {
	// Access, Limit and Global are whether there is anything to judge by: false costs
	// nothing.
	Access, Limit, Global bool
	// PerRequest says that Access must judge each request; otherwise its verdict holds
	// for all of a connection that have one place, interface, method and version.
	PerRequest bool
	// Body says that the request's attachments and arguments must be readable.
	Body bool
}

// Needs tells what to read for the policies of a place. Boundary is as of
// subject.Subject: at a provider, the service's name needs the body too.
func (at Place) Needs(boundary bool) Needs {
	// Not fields of the result: to load it behind stores of single bytes is slow.
	var judged, limited, asked bool
	var access, rates snapshot.Needs
	for f := range at.RBAC() {
		judged = judged || f.Rules != nil || f.Shadow != nil
		access |= f.Needs()
	}
	for l := range at.Limits() {
		if l.Enabled == 0 {
			continue
		}
		limited = true
		if len(l.Descriptors) == 0 {
			continue
		}
		if rates |= l.Needs; len(l.Rates) == 0 && at.Route != nil && at.Route.Policies != nil {
			rates |= at.Route.Policies.Needs
		}
	}
	if at.Listener != nil && len(at.Listener.Globals) > 0 {
		var needs snapshot.Needs
		asked, needs = at.asks()
		rates |= needs
	}
	each := asksBody(access, boundary)
	return Needs{Access: judged, Limit: limited, Global: asked, PerRequest: each, Body: each || asksBody(rates, false)}
}

// asks tells whether services may be asked about requests at the place, and what their
// descriptors need.
func (at Place) asks() (asked bool, needs snapshot.Needs) {
	for g := range at.globals() {
		asked = true
		needs |= g.needs
	}
	return asked, needs
}

// Whole tells whether requests to a listener must be held whole to be judged,
// whatever their route; otherwise their beginning is enough.
func Whole(l *snapshot.Listener, boundary bool) bool {
	if l == nil {
		return false
	}
	var needs snapshot.Needs
	for _, f := range l.RBAC {
		needs |= f.Needs()
	}
	for _, f := range l.Limits {
		needs |= f.Needs
	}
	for _, f := range l.Faults {
		needs |= f.Needs
	}
	if len(l.Globals) > 0 && l.Route != nil {
		return true // what waits for an answer is held
	}
	// Of routes only where they can have a say: rates alone do nothing.
	if l.Route != nil && len(l.RBAC)+len(l.Limits)+len(l.Faults) > 0 {
		needs |= l.Route.Needs
	}
	if snapshot.Delays(slices.Values(l.Faults)) {
		return true
	}
	return asksBody(needs, boundary)
}

func asksBody(n snapshot.Needs, boundary bool) bool {
	return n&snapshot.NeedsBody != 0 || boundary && n&snapshot.NeedsNames != 0
}
