package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/testnet/bench/usage"
)

// shape is a load's size and concurrency.
type shape struct {
	Bytes, Conns, Depth int
}

// row is one line of the table, with the field names of DESIGN.md.
type row struct {
	Path       string  `json:"path"`
	Bytes      int     `json:"bytes"`
	Conns      int     `json:"conns"`
	Depth      int     `json:"depth"`
	Ratio      float64 `json:"ratio"`                // throughput to direct's, median
	ProxyRatio float64 `json:"proxyRatio,omitempty"` // with policies or TLS: throughput to that without, median
	Min        float64 `json:"min"`
	Max        float64 `json:"max"`
	Rounds     int     `json:"rounds"`
	CPUMicros  float64 `json:"cpuMicros"` // per call, of consumer, hops and provider
	CPURatio   float64 `json:"cpuRatio"`  // to direct's
	P50Ratio   float64 `json:"p50Ratio"`
	P99Ratio   float64 `json:"p99Ratio"`
	P50Micros  float64 `json:"p50Micros"`
	P99Micros  float64 `json:"p99Micros"`
	P999Micros float64 `json:"p999Micros"`
	RSSMiB     float64 `json:"rssMiB"`               // of the largest hop
	CPUPercent float64 `json:"cpuPercent,omitempty"` // idle: of one core, the proxy's
	LaneShare  float64 `json:"laneShare,omitempty"`  // lane: of all calls, those that took it; the least of the rounds
	HopMicros  float64 `json:"hopMicros,omitempty"`  // lane: CPU per call of proxy and agent
}

// sample is one path in one round.
type sample struct {
	rate, cpu, p50, p99, p999 float64 // per second, us
	lane                      float64 // share of calls
	hops                      float64 // us
}

func measure(ctx context.Context) error {
	o, err := flags()
	if err != nil {
		return err
	}
	shapes, err := o.all()
	if err != nil {
		return err
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return fmt.Errorf("find binaries: %w", err)
	}
	t := newTable()
	err = loads(ctx, o, shapes, t)
	if o.idle > 0 && ctx.Err() == nil {
		err = errors.Join(err, holds(ctx, o, t))
	}
	// What was measured is so, whatever was not.
	return errors.Join(err, write(o.out, t.rows))
}

// loads measures everything that is loaded.
func loads(ctx context.Context, o options, shapes []shape, t *table) error {
	if len(shapes) == 0 && o.open == 0 && !o.connects && o.lanes == "" {
		return nil
	}
	r, err := newRig(ctx, o)
	if err != nil {
		return err
	}
	defer r.Close()
	for _, s := range shapes {
		rows, err := r.compare(ctx, o, plan{shape: s, paths: at(s.Bytes, strings.Split(o.paths, ","))})
		if err != nil {
			return err
		}
		t.add(rows)
	}
	if err := r.more(ctx, o, t); err != nil {
		return err
	}
	return r.lane(ctx, o, t)
}

// holds measures idle connections, of processes that did nothing else before.
func holds(ctx context.Context, o options, t *table) error {
	r, err := newRig(ctx, o)
	if err != nil {
		return err
	}
	defer r.Close()
	idle, err := r.idle(ctx, o.idle)
	if err != nil {
		return err
	}
	t.add([]row{idle})
	return nil
}

// more measures what is no closed loop: open loops at a part of direct's rate
// while the configuration changes, and connects.
func (r *rig) more(ctx context.Context, o options, t *table) error {
	s := shape{1024, 16, 1}
	if o.open > 0 {
		rows, err := r.compare(ctx, o, plan{shape: s, paths: []string{"relay", "proxy"}, kind: open})
		if err != nil {
			return err
		}
		t.add(rows)
	}
	if !o.connects {
		return nil
	}
	rows, err := r.compare(ctx, o, plan{shape: shape{0, 1, 1}, paths: []string{"unsteered", "proxy"}, kind: connect})
	if err != nil {
		return err
	}
	t.add(rows)
	return nil
}

func (o options) all() (shapes []shape, err error) {
	if o.shapes == "" {
		return nil, nil
	}
	for b := range strings.SplitSeq(o.sizes, ",") {
		for s := range strings.SplitSeq(o.shapes, ",") {
			var x shape
			if x.Bytes, err = strconv.Atoi(b); err != nil {
				return nil, fmt.Errorf("read -bytes: %w", err)
			}
			if _, err := fmt.Sscanf(s, "%dx%d", &x.Conns, &x.Depth); err != nil {
				return nil, fmt.Errorf("read -shapes %q: %w", s, err)
			}
			shapes = append(shapes, x)
		}
	}
	return shapes, nil
}

// plan is one comparison.
type plan struct {
	shape  shape
	paths  []string // beside direct
	kind   kind
	rate   float64 // open: calls per second
	javas  jvms    // of kind java
	primed bool    // each connection, before it is measured
	least  float64 // of a lane: the part of its calls that must have taken it
}

// compare measures every path in every round, in an order that rotates.
func (r *rig) compare(ctx context.Context, o options, p plan) ([]row, error) {
	names := append([]string{"direct"}, p.paths...)
	samples := make(map[string][]sample)
	for round := range o.rounds {
		if p.kind == open {
			capacity, _, err := r.run(ctx, "direct", plan{shape: p.shape, primed: p.primed}, o.millis)
			if err != nil {
				return nil, err
			}
			p.rate = o.open * float64(capacity.Calls) / capacity.Seconds
		}
		for i := range names {
			path := names[(i+round)%len(names)]
			hops := usage.CPU(r.hops[path])
			out, cpu, err := r.run(ctx, path, p, o.millis)
			if err != nil {
				return nil, err
			}
			hops = usage.CPU(r.hops[path]) - hops
			calls, all := float64(max(out.Calls, 1)), float64(max(out.All, 1))
			perCall := float64(cpu.Microseconds()) / all
			samples[path] = append(samples[path], sample{
				rate: calls / out.Seconds, cpu: perCall,
				p50: micros(out.P50), p99: micros(out.P99), p999: micros(out.P999),
				lane: out.Lane, hops: float64(hops.Microseconds()) / all,
			})
		}
	}
	rows := make([]row, 0, len(names))
	for _, path := range names {
		made := r.row(path, p, samples[path], samples["direct"])
		if plain := samples[without(path)]; plain != nil && (path == besidePath || slices.Contains(policyPaths, path)) {
			made.ProxyRatio = median(ratios(samples[path], plain, func(x sample) float64 { return x.rate }))
		}
		rows = append(rows, made)
	}
	return rows, nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func (r *rig) row(path string, p plan, got, direct []sample) row {
	ratio := func(f func(sample) float64) []float64 { return ratios(got, direct, f) }
	middle := func(f func(sample) float64) float64 {
		return median(sorted(len(got), func(i int) float64 { return f(got[i]) }))
	}
	rate, cpu := func(x sample) float64 { return x.rate }, func(x sample) float64 { return x.cpu }
	p50, p99 := func(x sample) float64 { return x.p50 }, func(x sample) float64 { return x.p99 }
	rates := ratio(rate)
	made := row{
		Path: path + string(p.kind), Bytes: p.shape.Bytes, Conns: p.shape.Conns, Depth: p.shape.Depth, Rounds: len(got),
		Ratio: median(rates), Min: rates[0], Max: rates[len(rates)-1], CPUMicros: middle(cpu),
		CPURatio: median(ratio(cpu)), P50Ratio: median(ratio(p50)), P99Ratio: median(ratio(p99)),
		P50Micros: middle(p50), P99Micros: middle(p99), P999Micros: middle(func(x sample) float64 { return x.p999 }),
		RSSMiB: usage.RSS(r.hops[path]),
	}
	if slices.Contains(lanePaths, path) {
		made.LaneShare = sorted(len(got), func(i int) float64 { return got[i].lane })[0]
		made.HopMicros = middle(func(x sample) float64 { return x.hops })
	}
	return made
}

// ratios are those of one path's samples to another's of the same rounds, ordered.
func ratios(got, to []sample, f func(sample) float64) []float64 {
	return sorted(len(got), func(i int) float64 { return f(got[i]) / max(f(to[i]), 1e-9) })
}

func sorted(n int, f func(i int) float64) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = f(i)
	}
	slices.Sort(all)
	return all
}

func median(sorted []float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)/2]
}
