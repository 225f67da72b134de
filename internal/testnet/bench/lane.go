package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dubway/dubway/agent/lanes"
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubboload"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

var (
	// lanePaths are those whose calls take lanes, to one provider and to two. A sample of them
	// is none unless the plan's least part of its calls did, those of the warm-up included, and
	// those of priming not.
	lanePaths = []string{"lane", "lane/2"} //nolint:gochecknoglobals // a table
	// noLanes are a pod's whose calls go by the proxy alone, and are not looked at by the lane's
	// programs. In proxy+lane they are, and go by the proxy nevertheless: because of the provider.
	noLanes = map[string]string{lanes.Annotation: lanes.Off} //nolint:gochecknoglobals // a table
)

const (
	besidePath  = "proxy+lane"
	twoPath     = "direct/2" // half of the connections to each of the providers of lane/2
	leastInLane = 0.99
	// In the middle of an open loop all lanes end, as the configuration is another then: what
	// comes until they are there again, in some 20 ms, goes by the proxy.
	leastPushed = 0.95
)

// lanes adds the consumer that may have lanes, and the neighbours.
func (r *rig) lanes() (err error) {
	if r.laned, err = r.near.AddPod("laned", map[string]string{"app": "laned"}); err != nil {
		return err
	}
	n := &r.neighbours
	for name, at := range map[string]**testnet.Pod{"second": &n.Second, "apart": &n.Apart, "java": &n.Java} {
		p, err := r.near.AddPod(name, map[string]string{"app": name}, 20880)
		if err != nil {
			return err
		}
		*at = p
		if name == "java" {
			continue // is started when it is measured
		}
		process, err := r.role(p, "provider", "[::]:20880", "[::]:20881")
		if err != nil {
			return err
		}
		r.providers = append(r.providers, process)
	}
	n.Apart.Annotations = noLanes
	for _, p := range []*testnet.Pod{n.Second, n.Apart, n.Java} {
		if err := p.Enroll(); err != nil {
			return err
		}
	}
	return nil
}

// lane measures lanes: closed loops, open ones while the configuration changes, Java, and
// what being looked at costs the way by the proxy. It fails, in the end, if a lane was none.
func (r *rig) lane(ctx context.Context, o options, t *table) error {
	for part := range strings.SplitSeq(o.lanes, ",") {
		if part == "java" {
			if err := r.java(ctx, o, t); err != nil {
				return err
			}
		}
		for _, p := range lanePlans(part) {
			rows, err := r.compare(ctx, o, p)
			if err != nil {
				return err
			}
			t.add(rows)
		}
	}
	return errors.Join(r.noLanes...)
}

// lanePlans are the comparisons of a part of -lanes.
func lanePlans(part string) (plans []plan) {
	switch part {
	case "closed":
		for _, bytes := range []int{128, 1024} {
			for _, s := range []shape{{bytes, 1, 1}, {bytes, 16, 1}, {bytes, 1, 16}} {
				p := plan{shape: s, paths: lanePaths, primed: true, least: leastInLane}
				if s.Conns > 1 {
					p.paths = append([]string{twoPath}, lanePaths...)
				}
				plans = append(plans, p)
			}
		}
	case "open":
		plans = append(plans, plan{shape: shape{1024, 16, 1}, paths: lanePaths, kind: open, primed: true, least: leastPushed})
	case "beside":
		for _, s := range []shape{{1024, 1, 1}, {1024, 16, 1}, {1024, 4, 32}} {
			plans = append(plans, plan{shape: s, paths: []string{"proxy", besidePath}, primed: true, least: leastInLane})
		}
	}
	return plans
}

// inLane begins to count which calls take lanes. The result says it to an outcome, and
// notes in noLanes if those of a path of lanes are too few.
func (r *rig) inLane(ctx context.Context, path string, p plan) (func(*outcome) error, error) {
	if !slices.Contains(lanePaths, path) {
		return func(*outcome) error { return nil }, nil
	}
	before, outcomes, err := r.tookLanes(ctx)
	if err != nil {
		return nil, err
	}
	return func(o *outcome) error {
		after, now, err := r.tookLanes(ctx)
		if err != nil {
			return err
		}
		o.Lane = min(1, float64(after-before)/float64(max(o.All-int64(p.shape.Conns)*dubboload.Priming, 1)))
		if o.Lane >= p.least {
			return nil
		}
		for name, n := range outcomes {
			now[name] -= n
		}
		maps.DeleteFunc(now, func(_ string, n uint64) bool { return n == 0 })
		r.noLanes = append(r.noLanes, fmt.Errorf("%s: %d of %d calls took a lane, which is no measurement of it; messages by outcome: %v",
			path, after-before, o.All, now))
		return nil
	}, nil
}

// tookLanes is how many calls took a lane both ways, as the kernel counted them, and what its
// programs decided else.
func (r *rig) tookLanes(ctx context.Context) (int, map[string]uint64, error) {
	text, err := r.near.Metrics(ctx)
	if err != nil {
		return 0, nil, err
	}
	agent := admin.NewClient(admin.AgentSocket(r.near.StateDir()))
	defer agent.Close()
	var node admin.NodeLanes
	if err := agent.Get(ctx, admin.PathNodeLanes, &node); err != nil {
		return 0, nil, err
	}
	return meshtest.SumOf(text, "dubway_lane_calls_total "), node.Outcomes, nil
}
