package router

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/filter/global"
	"github.com/dubway/dubway/l7proxy/filter/rate"
	"github.com/dubway/dubway/l7proxy/filter/rbac"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// forbidden explains what a gate makes of the connection. True: it ends there.
func (e *explanation) forbidden(g *snapshot.Gate) bool {
	if g == nil {
		return false
	}
	s := e.subject()
	for _, f := range g.RBAC {
		if why := e.judge("connection: ", f, s); why != "" {
			e.end(OutcomeRefuse, why)
			return true
		}
	}
	for _, l := range g.Limits {
		e.limit("connection: ", l)
	}
	return false
}

// denied explains what the listener's policies make of a request that takes route r,
// nil for none. It returns why it is refused, "" if it is not.
func (e *explanation) denied(r *snapshot.Route) string {
	s := e.subject()
	s.Reset(e.request())
	at := filter.Place{Listener: e.listener, Route: r}
	for f := range at.RBAC() {
		if why := e.judge("", f, s); why != "" {
			return why
		}
	}
	for l := range at.Limits() {
		e.limit("", l)
	}
	if e.listener != nil {
		e.asks(at, s)
	}
	for f := range at.Faults() {
		if !f.Idle() {
			e.fault(f, at.Abort())
		}
	}
	return ""
}

// fault adds the step of a fault filter. Own is what an abort is on the route.
func (e *explanation) fault(f *snapshot.Fault, own *snapshot.Abort) {
	share := func(millionths uint32) string { return percent(float64(millionths) * 100 / million) }
	var does []string
	if f.Delay > 0 && f.Delayed > 0 {
		does = append(does, fmt.Sprintf("delays %s by %s", share(f.Delayed), f.Delay))
	}
	if a := cmp.Or(own, f.Abort); f.Abort != nil && f.Aborted > 0 {
		does = append(does, fmt.Sprintf("aborts %s with %s", share(f.Aborted), answer(a)))
	}
	if f.Cluster != "" {
		does = append(does, "of requests to cluster "+f.Cluster)
	}
	if n := len(f.Headers); n > 0 {
		does = append(does, fmt.Sprintf("headers that must match: %d", n))
	}
	e.step("fault "+f.Name, "injects", strings.Join(does, "; "))
}

// answer says what a consumer gets in its provider's stead.
func answer(a *snapshot.Abort) string {
	if a.Class != "" {
		return a.Class
	}
	return fmt.Sprintf("status %d", a.Status)
}

// asks adds the steps of the global rate limits: what their services are asked.
func (e *explanation) asks(at filter.Place, s *subject.Subject) {
	list := at.Questions(s)
	for _, g := range e.listener.Globals {
		n := slices.IndexFunc(list, func(q global.Question) bool { return q.Filter == g })
		if n < 0 {
			e.step("global rate limit "+g.Name, "passes", fmt.Sprintf("no rate of stage %d describes it: nobody is asked", g.Stage))
			continue
		}
		known := ""
		if e.snapshot.Clusters[g.Service.Cluster] == nil {
			known = ", which does not exist"
		}
		e.step("global rate limit "+g.Name, "asks", fmt.Sprintf("cluster %s%s, domain %s: %s",
			g.Service.Cluster, known, list[n].Domain, descriptors(list[n].Descriptors)))
	}
}

// descriptors are written as (key=value, key=value) (key=value).
func descriptors(list []rate.Descriptor) string {
	all := make([]string, 0, len(list))
	for _, d := range list {
		entries := make([]string, 0, len(d))
		for _, entry := range d {
			entries = append(entries, entry.Key+"="+entry.Value)
		}
		all = append(all, "("+strings.Join(entries, ", ")+")")
	}
	return strings.Join(all, " ")
}

func (e *explanation) subject() *subject.Subject {
	s := &subject.Subject{Consumer: e.question.Consumer, Destination: e.question.Destination}
	if s.Consumer == nil {
		s.Consumer = new(subject.Consumer)
	}
	return s
}

// judge adds the steps of an RBAC filter, and returns why it denies, "" if it does not.
func (e *explanation) judge(what string, f *snapshot.RBAC, s *subject.Subject) string {
	if f.Shadow != nil {
		d := rbac.Judge(f.Shadow, s)
		e.step(what+"shadow rules "+f.Name, word(d), because(f.Shadow, d, s)+"; not enforced")
	}
	if f.Rules == nil {
		return ""
	}
	d := rbac.Judge(f.Rules, s)
	e.step(what+"rules "+f.Name, word(d), because(f.Rules, d, s))
	if !d.Denied {
		return ""
	}
	reason := rpc.WhyDenied.String()
	if d.Policy != rbac.None {
		reason += ": " + f.Rules.Policies[d.Policy].Name
	}
	return reason
}

func word(d rbac.Decision) string {
	if d.Denied {
		return "denies"
	}
	return "passes"
}

// because says which policy made a decision, and for whom.
func because(r *snapshot.Rules, d rbac.Decision, s *subject.Subject) string {
	who := "one who is not authenticated"
	if s.Consumer.Principal != "" {
		who = s.Consumer.Principal
	}
	action := strings.ToUpper(r.Action.String())
	if d.Policy != rbac.None {
		return fmt.Sprintf("%s policy %s matches, for %s", action, r.Policies[d.Policy].Name, who)
	}
	return fmt.Sprintf("no %s policy matches, for %s", action, who)
}

// limit adds the step of a rate limit, whose tokens nobody takes here.
func (e *explanation) limit(what string, l *snapshot.Limit) {
	share := func(millionths uint32) string { return percent(float64(millionths) * 100 / million) }
	why := fmt.Sprintf("of %s, refuses %s without a token", share(l.Enabled), share(l.Enforced))
	if l.Bucket != nil {
		why += fmt.Sprintf("; at most %d, %d more each %s", l.Bucket.Max, l.Bucket.Fill, l.Bucket.Interval)
	}
	if n := len(l.Descriptors); n > 0 {
		why += fmt.Sprintf("; descriptors: %d", n)
	}
	e.step(what+"rate limit "+l.Name, "limits", why)
}
