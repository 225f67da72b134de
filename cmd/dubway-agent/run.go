package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dubway/dubway/agent"
	"github.com/dubway/dubway/agent/authority"
	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/pods/kube"
	"github.com/dubway/dubway/internal/admin"
)

// flags are what the run command is told.
type flags struct {
	options       agent.Options
	kubernetes    bool
	kube          kube.Options
	nodeAddresses []string
	logLevel      string
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
			a, err := agent.New(opts)
			if err != nil {
				return fmt.Errorf("start: %w", err)
			}
			return a.Run(cmd.Context())
		},
	}
	o, set := &f.options, cmd.Flags()
	f.sources(set)
	set.StringVar(&o.StateDir, "state-dir", admin.DefaultStateDir, "directory of the sockets of agent and proxy")
	set.StringVar(&o.PinPath, "pin-path", datapath.DefaultPinPath, "where the programs and maps are pinned")
	set.StringVar(&o.Cgroup, "cgroup", "", "cgroup2 directory to attach to (default: the host's cgroup2 root)")
	set.StringVar(&o.NodeName, "node-name", "", "name of this node (default: in Kubernetes $NODE_NAME, else the host's name)")
	set.StringSliceVar(&f.nodeAddresses, "node-address", nil,
		"address of the node that its network namespace does not show, never dialled (may be repeated)")
	set.IntVar(&o.ProxyUID, "proxy-uid", 65532, "user and group id that dubway-proxy runs as")
	set.DurationVar(&o.CheckInterval, "check-interval", time.Minute,
		"between checks that the programs are effective on enrolled pods")
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
	return opts, nil
}
