package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/agent"
	"github.com/dubway/dubway/agent/authority"
	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/pods/leave"
	"github.com/dubway/dubway/internal/admin"
)

// flags are what the run command is told.
type flags struct {
	options       agent.Options
	nodeAddresses []string
	logLevel      string
	order         leave.Options
}

func runCommand() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Make the pods of this node part of the mesh",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts, err := f.complete()
			if err != nil {
				return err
			}
			return agent.Serve(cmd.Context(), opts)
		},
	}
	o, set := &f.options, cmd.Flags()
	set.StringVar(&o.Workloads, "workloads", "", "directory of workload files (required)")
	set.StringVar(&o.StateDir, "state-dir", admin.DefaultStateDir, "directory of the sockets of agent and proxy")
	set.StringVar(&o.PinPath, "pin-path", datapath.DefaultPinPath, "where the programs and maps are pinned")
	set.StringVar(&o.Cgroup, "cgroup", "", "cgroup2 directory to attach to (default: the host's cgroup2 root)")
	set.StringVar(&o.KubeletCgroup, "kubelet-cgroup", "",
		"cgroup2 directory of kubelet alone, whose probes pass inbound listeners, or off (default: found by its process; docs/probes.md)")
	set.StringVar(&o.NodeName, "node-name", "", "name of this node (default: the host's name)")
	set.StringSliceVar(&f.nodeAddresses, "node-address", nil,
		"address of the node that its network namespace does not show, never dialled (may be repeated)")
	set.IntVar(&o.ProxyUID, "proxy-uid", 65532, "user and group id that dubway-proxy runs as")
	set.DurationVar(&o.CheckInterval, "check-interval", time.Minute,
		"between checks that the programs are effective on enrolled pods")
	set.StringVar(&o.NodeDir, "node-dir", "",
		"directory of the host in which a new agent takes over from an old one (default: none, there is one agent at a time)")
	set.StringVar(&f.order.DaemonSet, "daemonset", "",
		"DaemonSet in POD_NAMESPACE whose annotation dubway.io/leave: \"true\" makes the agent leave its node for good")
	ca := &o.Authority
	set.StringVar(&ca.Address, "ca-address", "",
		"HOST:PORT of the authority that signs pods' certificates, istiod's secured port 15012; without it pods have no identities")
	set.StringVar(&ca.ServerName, "ca-server-name", authority.DefaultServerName, "whom the authority's own certificate is for")
	set.StringVar(&ca.RootFile, "ca-root-file", authority.DefaultRootFile,
		"PEM file of who signed that, from the ConfigMap istio-ca-root-cert")
	set.StringVar(&ca.TokenFile, "ca-token-file", authority.DefaultTokenFile,
		"the agent's own token, projected with audience istio-ca and so bound to its pod")
	set.StringVar(&ca.TrustDomain, "trust-domain", authority.DefaultTrustDomain, "the mesh's; every identity that is asked for is of it")
	set.StringVar(&ca.ClusterID, "cluster-id", authority.DefaultClusterID, "as which istiod knows this cluster")
	set.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	if err := cmd.MarkFlagRequired("workloads"); err != nil {
		panic(err)
	}
	return cmd
}

// obey makes the agent hear the DaemonSet's order to leave.
func (f *flags) obey(opts *agent.Options) (err error) {
	if f.order.DaemonSet == "" {
		return nil
	}
	f.order.Namespace, f.order.Pod = os.Getenv("POD_NAMESPACE"), os.Getenv("POD_NAME")
	opts.Leave.Orders, err = leave.New(f.order)
	if err != nil {
		return fmt.Errorf("read --daemonset: %w", err)
	}
	return nil
}

// complete makes options of what was said in words.
func (f *flags) complete() (agent.Options, error) {
	opts := f.options
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return opts, fmt.Errorf("read --log-level: %w", err)
	}
	if opts.CheckInterval < time.Second {
		return opts, fmt.Errorf("read --check-interval: %s is less than a second", opts.CheckInterval)
	}
	for _, text := range f.nodeAddresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return opts, fmt.Errorf("read --node-address: %w", err)
		}
		opts.NodeAddresses = append(opts.NodeAddresses, a)
	}
	opts.Logger = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	return opts, f.obey(&opts)
}
