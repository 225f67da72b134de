package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/dubway/dubway/internal/testnet/dubboload"
)

// kind is how a path is loaded.
type kind string

const (
	closed  kind = ""         // Depth calls always in flight on each connection
	open    kind = "+open"    // Rate calls a second, due whether answered or not
	connect kind = "+connect" // one connect after another
)

// job is one measurement of one path.
type job struct {
	Target string
	Second string // closed: of every other connection; "": Target too
	Kind   kind
	Shape  shape
	Rate   float64
	Millis int
	Prime  bool
}

// outcome is what the load says of it.
type outcome struct {
	dubboload.Result
	CPU  time.Duration // of the load itself
	Lane float64       // share of the calls that took a lane
}

func load(ctx context.Context, arg string) error {
	var j job
	if err := json.Unmarshal([]byte(arg), &j); err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	r, err := j.run(ctx)
	if err != nil {
		return fmt.Errorf("run load: %w", err)
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return fmt.Errorf("read usage: %w", err)
	}
	cpu := time.Duration(u.Utime.Nano() + u.Stime.Nano())
	return json.NewEncoder(os.Stdout).Encode(outcome{Result: r, CPU: cpu})
}

func (j job) run(ctx context.Context) (dubboload.Result, error) {
	d := time.Duration(j.Millis) * time.Millisecond
	switch j.Kind {
	case open:
		return dubboload.Open{
			Target: j.Target, Conns: j.Shape.Conns, Rate: j.Rate, Size: j.Shape.Bytes, Warmup: d / 4, Time: d, Prime: j.Prime,
		}.Run(ctx)
	case connect:
		return connects(j.Target, d)
	case closed:
	}
	return dubboload.Closed{
		Target: j.Target, Conns: j.Shape.Conns, Depth: j.Shape.Depth, Size: j.Shape.Bytes, Warmup: d / 4, Time: d, Prime: j.Prime,
		Dial: j.dialer(),
	}.Run(ctx)
}

// dialer dials both targets in turn; nil: there is one.
func (j job) dialer() func(string) (net.Conn, error) {
	if j.Second == "" {
		return nil
	}
	dials := 0
	return func(string) (net.Conn, error) {
		dials++
		return net.DialTimeout("tcp", []string{j.Second, j.Target}[dials%2], 10*time.Second)
	}
}

// connects makes connections one after another; each connection is reset, so that none stays
// in TIME_WAIT. What is measured is connect() alone, and its rate by the median: a
// few slow ones are the machine's.
func connects(target string, d time.Duration) (r dubboload.Result, err error) {
	var took []time.Duration
	for end := time.Now().Add(d); time.Now().Before(end); {
		start := time.Now()
		c, err := net.Dial("tcp", target)
		if err != nil {
			return r, fmt.Errorf("dial: %w", err)
		}
		took = append(took, time.Since(start))
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))] }
	return dubboload.Result{
		Calls: int64(len(took)), All: int64(len(took)), Seconds: at(0.5).Seconds() * float64(len(took)),
		P50: at(0.5), P99: at(0.99), P999: at(0.999), Max: at(1),
	}, nil
}
