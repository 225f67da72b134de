// Package chain is the agent's part in the node's chain of CNI plugins, for one turn of
// the agent: it answers dubway-cni and keeps it in its place. What becomes of a pod is
// decided by the cniserver.Pods that it is given.
package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dubway/dubway/agent/cniserver"
	"github.com/dubway/dubway/cni/install"
)

// Socket is the path of the plugin's socket in the directory that outlives agents.
func Socket(nodeDir string) string { return filepath.Join(nodeDir, "cni.sock") }

// Options of a Chain. All must be given.
type Options struct {
	NodeDir string // as the agent sees it; Install.Socket is the same as the host sees it
	Pods    cniserver.Pods
	Install install.Options
	Log     *slog.Logger
}

// Chain is one turn's. All methods are safe for concurrent use, Run excepted, which may
// be called once.
type Chain struct {
	socket    string
	server    *cniserver.Server
	installer *install.Installer
}

// New makes a Chain. It changes nothing before Run or Remove.
func New(opts Options) (*Chain, error) {
	opts.Install.Log = opts.Log
	installer, err := install.New(opts.Install)
	if err != nil {
		return nil, err
	}
	return &Chain{socket: Socket(opts.NodeDir), server: cniserver.New(opts.Pods, opts.Log), installer: installer}, nil
}

// Run answers the plugin and keeps it in its place until ctx ends or one of the two
// fails. Afterwards the plugin stays where it is, and pods wait for the next agent.
func (c *Chain) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	errs := make([]error, 2)
	for i, run := range []func() error{
		func() error { return c.server.Serve(ctx, c.socket) },
		func() error { return c.installer.Run(ctx) },
	} {
		parts.Go(func() {
			if errs[i] = run(); errs[i] != nil {
				cancel(errs[i])
			}
		})
	}
	parts.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take part in the CNI chain: %w", err)
	}
	return nil
}

// Status tells where the plugin is in the node's configuration.
func (c *Chain) Status() install.Status { return c.installer.Status() }

// Remove takes the plugin out of the node's configuration, for good: see
// install.Installer. A Chain that never ran may do it too, again and again. The plugin of
// a pod that is being made is still answered while Run runs.
func (c *Chain) Remove() error { return c.installer.Remove() }

var chainedDesc = prometheus.NewDesc("dubway_cni_chained",
	"1 while the plugin is in the configuration that the container runtime uses, 0 while pods start without it.", nil, nil)

var _ prometheus.Collector = (*Chain)(nil)

// Describe is part of prometheus.Collector.
func (c *Chain) Describe(descs chan<- *prometheus.Desc) {
	c.server.Describe(descs)
	descs <- chainedDesc
}

// Collect is part of prometheus.Collector.
func (c *Chain) Collect(metrics chan<- prometheus.Metric) {
	c.server.Collect(metrics)
	chained := 0.0
	if c.Status().File != "" {
		chained = 1
	}
	metrics <- prometheus.MustNewConstMetric(chainedDesc, prometheus.GaugeValue, chained)
}
