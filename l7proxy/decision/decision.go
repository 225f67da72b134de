// Package decision is the document in which operators are told what becomes of a call:
// package router decides, package directory finds what a host's name stands for; here is
// what admin says of it.
package decision

import (
	"net/netip"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/directory"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Caller is whose call it is.
type Caller struct {
	Consumer  *subject.Consumer
	Namespace string       // in which names are short; "" if it is not known
	Own       []netip.Addr // the addresses of its pod
	// Unknown is what becomes of its connects to unknown destinations where the
	// configuration refuses those.
	Unknown handoff.Unknown
}

// Explain tells what becomes of a call under a snapshot. An error says what of the question
// to ask otherwise.
func Explain(s *snapshot.Snapshot, q admin.ExplainRequest, from Caller) (admin.Explanation, error) {
	to, err := netip.ParseAddrPort(q.To)
	var named *directory.Found
	if err != nil {
		if named, err = directory.Find(s, q.To, from.Namespace); err != nil {
			return admin.Explanation{}, err
		}
		to = named.Address
	}
	d := router.Explain(s, router.Question{
		Destination: netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), Interface: q.Interface, Method: q.Method,
		Group: q.Group, Version: q.Version, Attachments: q.Attachments, Arguments: q.Arguments,
		Consumer: from.Consumer, Own: from.Own, Unknown: from.Unknown,
	})
	e := admin.Explanation{
		APIVersion: admin.APIVersion, Generation: s.Generation, Destination: to.String(),
		Outcome: string(d.Outcome), Reason: d.Reason,
		Listener: d.Listener, Route: d.Route, Origin: d.Origin, Config: d.Config, Share: d.Share, Clusters: targets(d.Clusters),
		Steps: []admin.ExplainStep{},
	}
	if named != nil {
		e.Steps = append(e.Steps, admin.ExplainStep{Object: "host " + named.Host, Verdict: "found", Why: named.String()})
	}
	for _, t := range d.Clusters {
		for _, c := range t.Endpoints {
			e.Endpoints = append(e.Endpoints, c.Address)
		}
	}
	for _, w := range d.Otherwise {
		e.Otherwise = append(e.Otherwise, admin.ExplainWay{
			Route: w.Route, Origin: w.Origin, Config: w.Config, Share: w.Share, Clusters: targets(w.Clusters),
		})
	}
	for _, step := range d.Steps {
		e.Steps = append(e.Steps, admin.ExplainStep(step))
	}
	if d.Outcome == router.OutcomeRoute {
		names := codec.Prefix{Path: q.Interface, Method: q.Method, Version: q.Version}
		e.Steps = append(e.Steps, laneStep(verdict.Explained(s, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), names)))
	}
	return e, nil
}

// laneStep tells whether the kernel may route such calls by itself.
func laneStep(r verdict.Reason) admin.ExplainStep {
	if r == verdict.Lane {
		return admin.ExplainStep{Object: "lane", Verdict: "may", Why: "the kernel routes such calls between enrolled pods of one node"}
	}
	return admin.ExplainStep{Object: "lane", Verdict: "proxy", Why: string(r)}
}

func targets(list []router.Target) []admin.RouteTarget {
	targets := make([]admin.RouteTarget, 0, len(list))
	for _, t := range list {
		target := admin.RouteTarget{
			Cluster: t.Cluster, Weight: t.Weight, Subset: t.Subset, Known: t.Known, Endpoints: len(t.Endpoints),
		}
		for _, c := range t.Endpoints {
			if c.Healthy {
				target.Healthy++
			}
		}
		targets = append(targets, target)
	}
	return targets
}
