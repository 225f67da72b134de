package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/agent/pods/leave"
	"github.com/dubway/dubway/internal/admin"
)

// readyCommand is the readiness probe of the agent's container.
func readyCommand() *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use:   "ready",
		Short: "Tell by the exit status whether the agent of a state directory serves",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := admin.NewClient(admin.AgentSocket(stateDir))
			defer client.Close()
			var answer admin.AgentReady
			if err := client.Get(cmd.Context(), admin.PathReady, &answer); err != nil {
				return fmt.Errorf("ask the agent: %w", err)
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), answer.Role); err != nil {
				return fmt.Errorf("print result: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", admin.DefaultStateDir, "directory of the sockets of agent and proxy")
	return cmd
}

// leaveCommand is what runs before a release is uninstalled.
func leaveCommand() *cobra.Command {
	var o leave.Options
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Make every agent of a DaemonSet leave its node for good, and wait until all have",
		Long: "Give the DaemonSet the annotation dubway.io/leave, and wait until each of its pods has\n" +
			"dubway.io/left. The CNI configuration is restored then, no pod is steered, and nothing is\n" +
			"pinned. To come back, remove the annotation.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := leave.Command(cmd.Context(), o, timeout)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), "nodes left:", n); err != nil {
				return fmt.Errorf("print result: %w", err)
			}
			return nil
		},
	}
	set := cmd.Flags()
	set.StringVar(&o.Namespace, "namespace", "", "of the DaemonSet (required)")
	set.StringVar(&o.DaemonSet, "daemonset", "", "its name (required)")
	set.StringVar(&o.Kubeconfig, "kubeconfig", "", "file with the access to the API server (default: that of a pod)")
	set.DurationVar(&timeout, "timeout", 5*time.Minute, "how long all nodes together may take")
	for _, name := range []string{"namespace", "daemonset"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	return cmd
}
