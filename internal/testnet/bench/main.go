// Command bench measures the mesh beside a direct connection and a plain relay,
// in the same run: real processes in network namespaces over veth, interleaved
// rounds, medians of the ratios to direct in the same round. It prints a table
// and writes build/bench.json. It measures; it asserts nothing but that what is called a
// lane was one, by the kernel's count of its calls.
//
// The load, the provider and every hop run at real-time priority, so that other
// work on the machine disturbs all of them alike. Below them, loops of the least priority keep
// the processors awake: to wake one that has halted takes a virtual machine tens of us, for
// direct connections and lanes alike, and hides what either costs (-awake=false measures that).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/dubway/dubway/internal/testnet/bench/relay"
	"github.com/dubway/dubway/internal/testnet/bench/usage"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "as-") {
		err = play(ctx, strings.TrimPrefix(os.Args[1], "as-"), os.Args[2:])
	} else {
		err = measure(ctx)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// play is what the processes of the measurement are.
func play(ctx context.Context, role string, args []string) error {
	switch role {
	case "load":
		return load(ctx, args[0])
	case "idle":
		return idleConsumer(ctx, args[0])
	case "provider":
		return serve(args, (&dubbotest.Provider{Name: "bench"}).Serve)
	case "awake":
		return usage.Awake()
	case "relay":
		return serve(args[1:], func(l net.Listener) error { return relay.Serve(l, args[0]) })
	}
	return fmt.Errorf("no role %q", role)
}

// serve serves on every address and returns the first error.
func serve(addresses []string, f func(net.Listener) error) error {
	errs := make(chan error, len(addresses))
	for _, a := range addresses {
		l, err := net.Listen("tcp", a)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		go func() { errs <- f(l) }()
	}
	return <-errs
}

// options are the command line.
type options struct {
	rounds   int
	millis   int
	sizes    string
	shapes   string
	paths    string
	open     float64
	connects bool
	lanes    string
	java     int
	peer     string
	idle     int
	out      string
	bin      string
	awake    bool
}

func flags() (o options, err error) {
	flag.IntVar(&o.rounds, "rounds", 5, "interleaved rounds")
	flag.IntVar(&o.millis, "millis", 1000, "length of one measurement")
	flag.StringVar(&o.sizes, "bytes", "16,1024,65536", "argument sizes")
	flag.StringVar(&o.shapes, "shapes", "1x1,16x1,64x1,4x32", "connections x calls in flight on each")
	flag.StringVar(&o.paths, "paths", strings.Join(append(slices.Clone(paths), policyPaths...), ","),
		"paths beside direct; those with policies are measured with 1024 bytes alone")
	flag.Float64Var(&o.open, "open", 0.5, "open loops at this part of direct's rate with 16 connections; 0: none")
	flag.BoolVar(&o.connects, "connects", true, "measure connects too")
	flag.StringVar(&o.lanes, "lanes", "closed,open,java,beside",
		"what is measured of lanes: closed and open loops, Java, and what being looked at costs calls that take none")
	flag.IntVar(&o.java, "java", 3000, "length of one measurement of Java, in ms")
	flag.StringVar(&o.peer, "peer", "build/peers/java-3.3.6", "directory of Java's classes")
	flag.IntVar(&o.idle, "idle", 15_000, "idle connections to hold through the proxy; 0: none")
	flag.StringVar(&o.out, "o", "build/bench.json", "where the rows go")
	flag.StringVar(&o.bin, "bin", "bin", "directory of dubway-agent and dubway-proxy")
	flag.BoolVar(&o.awake, "awake", true, "keep the processors from halting, as those of a node with other work are")
	flag.Parse()
	if os.Getuid() != 0 {
		return o, errors.New("needs root: it makes network namespaces and loads BPF")
	}
	return o, nil
}
