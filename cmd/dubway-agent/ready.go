package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/internal/admin"
)

func readyCommand() *cobra.Command {
	var stateDir string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "ready",
		Short: "Exit with 0 when the agent of a state directory serves",
		Long: "Exit with 0 when the agent of a state directory serves: it knows the pods of its node and\n" +
			"has tried to enrol those that are wanted. It is meant for readiness probes.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			client := admin.NewClient(admin.AgentSocket(stateDir))
			defer client.Close()
			var status admin.AgentStatus
			if err := client.Get(ctx, admin.PathStatus, &status); err != nil {
				return fmt.Errorf("not ready: %w", err)
			}
			if status.NotReady != "" {
				return errors.New("not ready: " + status.NotReady)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", admin.DefaultStateDir, "directory of the sockets of agent and proxy")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "how long the agent may take to answer")
	return cmd
}
