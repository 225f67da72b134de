// Command dubway-agent is the privileged half of the mesh on one node: it loads
// the BPF programs and makes sockets in pods' network namespaces for
// dubway-proxy. It holds flags and nothing else; what they mean is in package
// agent.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/internal/version"
)

func main() {
	// SIGTERM ends the agent, not the steering: pins stay for the next one.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dubway-agent:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "dubway-agent",
		Short:         "The privileged half of Dubway on one node",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(runCommand(), readyCommand(), uninstallCommand(), &cobra.Command{
		Use:   "version",
		Short: "Print the release",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "dubway-agent", version.Version)
			if err != nil {
				return fmt.Errorf("print version: %w", err)
			}
			return nil
		},
	})
	return root
}

func uninstallCommand() *cobra.Command {
	var pinPath string
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Detach the programs and remove what is pinned",
		Long: "Detach the programs from the cgroup and the network namespaces and remove what is pinned.\n" +
			"Stop the agent first. Connections that are open go on; new ones are not steered.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := datapath.Uninstall(pinPath); err != nil {
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), "removed what was pinned at", pinPath); err != nil {
				return fmt.Errorf("print result: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&pinPath, "pin-path", datapath.DefaultPinPath, "where the programs and maps are pinned")
	return cmd
}
