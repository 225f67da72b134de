// Command dubway-proxy is the unprivileged half of Dubway: the node's L7 proxy.
// It is put together in package l7proxy; here are its flags.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/version"
	"github.com/dubway/dubway/l7proxy"
	"github.com/dubway/dubway/l7proxy/lane/tally"
	"github.com/dubway/dubway/l7proxy/overload"
)

// errCapabilities refuses to parse pods' bytes with more rights than needed.
var errCapabilities = errors.New("dubway-proxy parses what pods send and must run without capabilities")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dubway-proxy:", err)
		os.Exit(1)
	}
}

// errTwoSources refuses to guess which of two sources goes before the other.
var errTwoSources = errors.New("configuration comes from files or from a control plane: say --xds-dir or --xds-server, not both")

// gcPercent is GOGC unless the environment says otherwise.
const gcPercent = 25

// flags are the command line.
type flags struct {
	options           l7proxy.Options
	accessLog         string
	logLevel          string
	unknown           string
	allowCapabilities bool
	cgroup            overload.Cgroup
}

func command() *cobra.Command {
	f := &flags{cgroup: overload.CgroupOf("/proc", "/sys/fs/cgroup")}
	c := &cobra.Command{
		Use: "dubway-proxy", Short: "The node's L7 proxy: decodes Dubbo and applies xDS policies",
		Version: version.Version, SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.options.XDSServer != "" && c.Flags().Changed("xds-dir") {
				return errTwoSources
			}
			if f.options.XDSServer != "" && !c.Flags().Changed("access-log-sample") {
				f.options.Sample = 0 // as sidecars: no line that the control plane does not ask for
			}
			return f.run(c.Context())
		},
	}
	o := &f.options
	s := c.Flags()
	s.StringVar(&o.StateDir, "state-dir", admin.DefaultStateDir, "directory of the agent's and the proxy's sockets")
	s.Uint64Var(&o.MemoryLimit, "memory-limit", f.cgroup.Limit,
		"bytes; from 80 % no connections are taken, from 90 % the heaviest workload is refused; the default is the cgroup's, 0 is none")
	s.StringVar(&o.XDSDir, "xds-dir", "/etc/dubway/xds", "directory of xDS files (DiscoveryResponse, YAML or JSON)")
	s.StringVar(&o.XDSServer, "xds-server", "",
		"HOST:PORT of a control plane that is asked by plain gRPC, in place of --xds-dir: istiod's port 15010")
	s.BoolVar(&o.Secured.TLS, "xds-tls", false,
		"ask over TLS, with the certificate of the account whose view it is: istiod's port 15012")
	s.StringVar(&o.Secured.ServerName, "xds-server-name", "istiod.istio-system.svc", "whom the control plane's certificate is for")
	s.StringVar(&o.Secured.RootFile, "xds-root-file", "",
		"PEM file of who signed that; the default is whom the mesh trusts")
	s.StringVar(&o.Secured.PlainServer, "xds-plain-server", "",
		"HOST:PORT that is asked in plaintext for accounts that get no certificate: istiod's port 15010; without it they wait")
	s.StringVar(&o.XDSCluster, "xds-cluster-id", "", "CLUSTER_ID that the control plane is told, in a mesh of several clusters")
	s.StringVar(&o.Domain, "cluster-domain", "cluster.local", "domain of the Kubernetes cluster")
	s.StringVar(&o.Aeraki, "aeraki-server", "aeraki.istio-system:15010",
		"HOST:PORT of Aeraki's server of routes, which is asked only if listeners name it and the control plane has no such cluster")
	s.StringVar(&f.unknown, "unknown-destinations", string(handoff.UnknownRefuse),
		"what becomes of connects to destinations that the control plane does not know, with outboundTrafficPolicy REGISTRY_ONLY: "+
			"refuse, or count as a dry run, which dubwayctl unknown lists, or pass")
	s.StringVar(&o.Node, "node-name", hostname(), "name of this node")
	s.StringVar(&o.Locality, "locality", "", "region/zone/subzone of this node, or its first parts, for zone aware load balancing")
	s.StringVar((*string)(&o.SameNodeEncrypt), "same-node-encrypt", string(l7proxy.EncryptStrict),
		"which calls within this node are encrypted as between nodes: never, strict (to ports that take nothing else), always")
	s.StringVar(&o.MetricsAddress, "metrics-address", ":15020", "address of /metrics; empty for none")
	s.StringVar(&o.HealthAddress, "health-address", ":15021", "address of /healthz/ready and /healthz/live; empty for none")
	s.IntVar(&o.MaxFrame, "max-frame-bytes", 16<<20, "largest Dubbo frame; larger ones are refused")
	s.Int64Var(&o.MaxConnections, "max-connections", 65536, "live connections of one workload")
	s.Int64Var(&o.MaxBuffers, "max-buffer-bytes", 64<<20, "read buffers of one workload; requests that need more are refused")
	s.Int64Var(&o.MaxInFlight, "max-in-flight", 65536, "requests in flight of one workload; more are refused; 0 is any number")
	s.Int64Var(&o.MaxDecoded, "max-decoded-values", 10_000_000,
		"values of one workload's requests that rules may read in a second; its connections wait beyond that; 0 is any number")
	s.DurationVar(&o.Drain, "drain", 25*time.Second, "how long pending requests may take when the proxy stops")
	f.telling(s)
	s.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	s.BoolVar(&f.allowCapabilities, "allow-capabilities", false, "run even with effective capabilities")
	return c
}

// telling are the flags of what is told of calls.
func (f *flags) telling(s *pflag.FlagSet) {
	o := &f.options
	s.Float64Var(&o.Sample, "access-log-sample", 1,
		"share of requests that are logged, 0 to 1, where the configuration says nothing of it; with --xds-server 0 unless given")
	s.Uint32Var(&o.LaneLog, "lane-log", tally.DefaultLimit,
		"calls in the lane that are told of in a second, by the access log and dubwayctl tap; further ones are counted alone; 0 is none")
	s.BoolVar(&o.Applications, "metrics-consumer-application", false,
		"label metrics with the consumers' own names (attachment remote.application)")
	s.BoolVar(&o.TapBodies, "tap-bodies", true, "let root and the proxy's own user read arguments by dubwayctl tap --decode")
	s.StringVar(&f.accessLog, "access-log", "stdout", "where the access log goes: stdout, off, or a file")
}

func (f *flags) run(ctx context.Context) error {
	if caps := l7proxy.Capabilities(); len(caps) > 0 && !f.allowCapabilities {
		return fmt.Errorf("%w, but has %s: run it as an ordinary user (uid 65532), or say --allow-capabilities",
			errCapabilities, strings.Join(caps, ", "))
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return fmt.Errorf("read --log-level: %w", err)
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	out, err := openAccessLog(f.accessLog)
	if err != nil {
		return err
	}
	f.options.AccessLog, f.options.Logger = out, log
	switch f.unknown {
	case "pass":
		f.options.Unknown = handoff.UnknownPass
	case string(handoff.UnknownCount), string(handoff.UnknownRefuse):
		f.options.Unknown = handoff.Unknown(f.unknown)
	default:
		return fmt.Errorf("read --unknown-destinations: %q is not refuse, count or pass", f.unknown)
	}
	if f.options.MaxTotal, err = descriptors(); err != nil {
		return err
	}
	f.options.HandoffSocket = handoff.Socket(f.options.StateDir)
	if os.Getenv("GOGC") == "" {
		// The steady path makes no garbage: collecting sooner costs little, and the
		// memory of idle connections is what counts.
		debug.SetGCPercent(gcPercent)
	}
	f.limitMemory()
	p, err := l7proxy.New(f.options)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	log.Info("dubway-proxy", "version", version.Version, "node", f.options.Node, "xds", cmp.Or(f.options.XDSServer, f.options.XDSDir))
	return p.Run(ctx)
}

// limitMemory has the runtime collect sooner where there is a limit. From 90 % on
// workloads are shed: what they are shed for should not be garbage.
func (f *flags) limitMemory() {
	limit := f.options.MemoryLimit
	if limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(min(limit, math.MaxInt64) / 10 * 9))
	}
	if limit == f.cgroup.Limit && limit > 0 {
		f.options.MemoryUsed = f.cgroup.Used
	}
}

// descriptors is how many connections of pods the process may hold: four fifths
// of its descriptors. The rest is for providers and for the agent's messages.
func descriptors() (int64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read limit of open files: %w", err)
	}
	return int64(limit.Cur / 5 * 4), nil
}

// openAccessLog returns nil for "off".
func openAccessLog(where string) (io.Writer, error) {
	switch where {
	case "off", "":
		return nil, nil //nolint:nilnil // no log is no error
	case "stdout":
		return os.Stdout, nil
	}
	file, err := os.OpenFile(where, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open access log: %w", err)
	}
	return file, nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}
