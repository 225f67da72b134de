// Command scale measures what a mesh's size costs a node: the real agent and proxy below a
// control plane of thousands of services, for one and for many views. It prints a table and
// writes build/scale.json. It measures; it asserts nothing.
//
// It is no part of package bench, whose rows are ratios of loads that are run side by side.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/dubway/dubway/internal/testnet"
)

func main() {
	testnet.Dispatch(map[string]testnet.Helper{"provider": provide, "caller": call})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	services, views string
	own             bool
	changes         int
	idle            time.Duration
	recorded        string
	out, bin        string
}

func flags() (o options, err error) {
	flag.StringVar(&o.services, "services", "1000,10000", "how many services there are, of 5 endpoints each")
	flag.StringVar(&o.views, "views", "1,10,50", "how many kinds of pods see them")
	flag.BoolVar(&o.own, "own", true, "measure views with inbound listeners of their own too")
	flag.IntVar(&o.changes, "changes", 20, "how often an endpoint changes")
	flag.DurationVar(&o.idle, "idle", 20*time.Second, "how long the idle proxy is watched")
	flag.StringVar(&o.recorded, "recorded", "l7proxy/xds/testdata/istiod", "directory of what a real istiod sent")
	flag.StringVar(&o.out, "o", "build/scale.json", "where the rows go")
	flag.StringVar(&o.bin, "bin", "bin", "directory of dubway-agent and dubway-proxy")
	flag.Parse()
	if os.Getuid() != 0 {
		return o, errors.New("needs root: it makes network namespaces and loads BPF")
	}
	o.bin, err = filepath.Abs(o.bin)
	if err != nil {
		return o, fmt.Errorf("find binaries: %w", err)
	}
	return o, nil
}

// size is one measurement: so many services for so many views.
type size struct {
	Services int  `json:"services"`
	Views    int  `json:"views"`
	Own      bool `json:"own"` // the views differ by their inbound listeners
}

// row is what a size costs, times in milliseconds, memory in MiB.
type row struct {
	size
	FirstPush    float64 `json:"firstPushMillis"`    // from the first stream until every view has all
	FirstRequest float64 `json:"firstRequestMillis"` // from the proxy's start to the first answer
	Peak         float64 `json:"peakRss"`
	RSS          float64 `json:"rss"`              // after the first push, when it rests
	Anonymous    float64 `json:"anonymous"`        // of that: not the binary
	Received     float64 `json:"received"`         // from the control plane, for all views
	Kept         float64 `json:"kept"`             // on disk
	Effect       float64 `json:"effectMillis"`     // from an endpoint's push to a call that reaches it, median
	EffectMost   float64 `json:"effectMostMillis"` // the longest
	IdleCPU      float64 `json:"idleCpuPercent"`   // of one core
	After        float64 `json:"rssAfter"`         // after the changes
	Agent        float64 `json:"agentRss"`
	Restarted    float64 `json:"restartMillis"` // from the start of the next proxy, without a control plane, to an answer
	RestartedRSS float64 `json:"restartRss"`    // its peak
}

func run(ctx context.Context) error {
	o, err := flags()
	if err != nil {
		return err
	}
	var sizes []size
	for s := range strings.SplitSeq(o.services, ",") {
		for v := range strings.SplitSeq(o.views, ",") {
			var one size
			if one.Services, err = strconv.Atoi(s); err != nil {
				return fmt.Errorf("read -services: %w", err)
			}
			if one.Views, err = strconv.Atoi(v); err != nil {
				return fmt.Errorf("read -views: %w", err)
			}
			sizes = append(sizes, one)
			if one.Own = true; o.own && one.Views > 1 {
				sizes = append(sizes, one)
			}
		}
	}
	var rows []row
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "services\tviews\town\tpush ms\trequest ms\tpeak MiB\tRSS MiB\tanon MiB\treceived MiB\tkept MiB\teffect ms\tmost ms\tidle CPU %\tRSS after\tagent MiB\trestart ms\tits peak\t")
	for _, s := range sizes {
		r, err := measure(ctx, o, s)
		if err != nil {
			return fmt.Errorf("%d services, %d views: %w", s.Services, s.Views, err)
		}
		rows = append(rows, r)
		fmt.Fprintf(w, "%d\t%d\t%t\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f\t%.0f\t%.0f\t%.0f\t%.0f\t\n", r.Services, r.Views, r.Own,
			r.FirstPush, r.FirstRequest, r.Peak, r.RSS, r.Anonymous, r.Received, r.Kept, r.Effect, r.EffectMost, r.IdleCPU, r.After, r.Agent,
			r.Restarted, r.RestartedRSS)
		_ = w.Flush()
	}
	return write(o.out, rows)
}

func write(path string, rows []row) error {
	b, err := json.MarshalIndent(struct {
		Rows []row `json:"rows"`
	}{rows}, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, append(b, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}
