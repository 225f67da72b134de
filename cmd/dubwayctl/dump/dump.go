// Package dump holds the command that writes what the proxy holds of the mesh in the form of
// Envoy's config_dump. The proxy takes the secrets out.
package dump

import (
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/internal/admin"
)

// Params are what the command takes from dubwayctl.
type Params struct {
	Stdout io.Writer
	Proxy  func() *admin.Client // to be closed by whoever asked
	Pods   cobra.CompletionFunc
}

// Command returns the command.
func Command(p *Params) *cobra.Command {
	return &cobra.Command{
		Use:     "config-dump [POD]",
		Aliases: []string{"config_dump"},
		Short:   "Write what the control plane told of a pod's view, or of all, as Envoy's config_dump",
		Long: "Write the clusters, endpoints, listeners, routes and certificates that hold for a pod, or for all views\n" +
			"one after the other, as JSON in the form of Envoy's config_dump (envoy.admin.v3.ConfigDump), for bug\n" +
			"reports. Private keys, passwords, tokens and whatever looks like them are replaced by [redacted], and of\n" +
			"types that the proxy does not know only the name is left. What is rejected is there as an error_state.",
		Example: "  dubwayctl config-dump shop/consumer-0 > dump.json",
		Args:    cobra.MaximumNArgs(1),

		ValidArgsFunction: p.Pods,
		RunE: func(c *cobra.Command, args []string) error {
			path := admin.PathDump
			if len(args) > 0 {
				path += "?pod=" + url.QueryEscape(args[0])
			}
			client := p.Proxy()
			defer client.Close()
			return client.Copy(c.Context(), path, p.Stdout)
		},
	}
}
