package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dubway/dubway/agent"
	"github.com/dubway/dubway/agent/authority"
	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/lanes"
	"github.com/dubway/dubway/agent/pods/kube"
	"github.com/dubway/dubway/agent/pods/leave"
	"github.com/dubway/dubway/cni/entry"
	"github.com/dubway/dubway/cni/install"
	"github.com/dubway/dubway/internal/admin"
)

// flags are what the run command is told.
type flags struct {
	options       agent.Options
	kubernetes    bool
	kube          kube.Options
	nodeAddresses []string
	logLevel      string
	order         leave.Options
	cni           string
	plugin        install.Options
	lane          string
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
	f.sources(set)
	f.chain(set)
	set.StringVar(&o.StateDir, "state-dir", admin.DefaultStateDir, "directory of the sockets of agent and proxy")
	set.StringVar(&o.PinPath, "pin-path", datapath.DefaultPinPath, "where the programs and maps are pinned")
	set.StringVar(&o.Cgroup, "cgroup", "", "cgroup2 directory to attach to (default: the host's cgroup2 root)")
	set.StringVar(&o.KubeletCgroup, "kubelet-cgroup", "",
		"cgroup2 directory of kubelet alone, whose probes pass inbound listeners, or off (default: found by its process; docs/probes.md)")
	set.StringVar(&o.NodeName, "node-name", "", "name of this node (default: in Kubernetes $NODE_NAME, else the host's name)")
	set.StringSliceVar(&f.nodeAddresses, "node-address", nil,
		"address of the node that its network namespace does not show, never dialled (may be repeated)")
	set.IntVar(&o.ProxyUID, "proxy-uid", 65532, "user and group id that dubway-proxy runs as")
	set.DurationVar(&o.CheckInterval, "check-interval", time.Minute,
		"between checks that the programs are effective on enrolled pods")
	set.StringVar(&o.NodeDir, "node-dir", "",
		"directory of the host in which a new agent takes over from an old one (default: none, there is one agent at a time)")
	set.StringVar(&f.order.DaemonSet, "daemonset", "",
		"DaemonSet in POD_NAMESPACE whose annotation dubway.io/leave: \"true\" makes the agent leave its node for good")
	set.StringVar(&f.lane, "lane", string(lanes.Auto),
		"whether same-node calls take lanes, past the proxy: auto (where it is known to work), on, observe or off")
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

// chain are the flags of the CNI plugin.
func (f *flags) chain(set *pflag.FlagSet) {
	set.StringVar(&f.cni, "cni", "off",
		"what becomes of a new pod while no agent answers the CNI plugin: closed (it waits), open (it starts unenrolled); "+
			"off installs no plugin")
	p := &f.plugin
	set.StringVar(&p.ConfDir, "cni-conf-dir", "/etc/cni/net.d", "the node's directory of CNI configurations")
	set.StringVar(&p.BinDir, "cni-bin-dir", "/opt/cni/bin", "the node's directory of CNI plugins")
	set.StringVar(&p.Source, "cni-source", "/usr/bin/dubway-cni", "the plugin that is installed")
	set.StringVar(&p.Socket, "cni-socket", "/run/dubway/cni.sock", "the agent's socket below --node-dir, as the plugin sees it on the host")
}

// chained says where the plugin is installed.
func (f *flags) chained(opts *agent.Options) error {
	opts.CNIConfDir = f.plugin.ConfDir
	switch f.cni {
	case "off":
		return nil
	case string(entry.Closed), string(entry.Open):
	default:
		return fmt.Errorf("read --cni: %q is not closed, open or off", f.cni)
	}
	f.plugin.Mode = entry.Mode(f.cni)
	f.plugin.Exempt = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(f.kube.Exclude), f.kube.Own.Namespace))))
	opts.CNI = &f.plugin
	return nil
}

// sources are the flags that say who tells of pods.
func (f *flags) sources(set *pflag.FlagSet) {
	set.StringVar(&f.options.Workloads, "workloads", "", "directory of workload files")
	set.BoolVar(&f.kubernetes, "kubernetes", false, "take pods from the API server of the cluster that this process is a pod of")
	set.StringVar(&f.kube.Kubeconfig, "kubeconfig", "", "take pods from the API server that this file names")
	set.StringSliceVar(&f.kube.Exclude, "exclude-namespace", []string{"kube-system"},
		"namespace whose pods are never touched, beside the agent's own (may be repeated)")
}

// source makes sure that exactly one of the sources is named.
func (f *flags) source(opts *agent.Options) error {
	named := 0
	for _, is := range []bool{opts.Workloads != "", f.kubernetes, f.kube.Kubeconfig != ""} {
		if is {
			named++
		}
	}
	if named != 1 {
		return errors.New("name one source of pods: --kubernetes, --kubeconfig FILE or --workloads DIRECTORY")
	}
	if opts.Workloads != "" {
		return nil
	}
	opts.Kubernetes = &f.kube
	opts.NodeName = cmp.Or(opts.NodeName, os.Getenv("NODE_NAME"))
	f.kube.Own = kube.Ref{Namespace: os.Getenv("POD_NAMESPACE"), Name: os.Getenv("POD_NAME"), UID: os.Getenv("POD_UID")}
	return nil
}

// complete makes options of what was said in words.
func (f *flags) complete() (agent.Options, error) {
	opts := f.options
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return opts, fmt.Errorf("read --log-level: %w", err)
	}
	if err := f.source(&opts); err != nil {
		return opts, err
	}
	if err := f.chained(&opts); err != nil {
		return opts, err
	}
	var err error
	if opts.Lane, err = lanes.Parse(f.lane); err != nil {
		return opts, fmt.Errorf("read --lane: %w", err)
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
