// Package accesslog holds the command that shows and switches the proxy's access log.
package accesslog

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/cmd/dubwayctl/ask"
	"github.com/dubway/dubway/internal/admin"
)

// Command returns the command.
func Command(p *ask.Params) *cobra.Command {
	return &cobra.Command{
		Use:   "accesslog [on|off|SHARE|mesh]",
		Short: "Show or switch the proxy's access log",
		Long: "Show or switch the proxy's access log: on, off, or the share of requests that are logged, from 0 to 1,\n" +
			"whatever the mesh's configuration says of it. With mesh that decides again, as it does when the proxy\n" +
			"starts; of calls of which it says nothing a share is logged then, the proxy's flag --access-log-sample.",
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: []string{"on", "off", "mesh"},
		RunE: func(c *cobra.Command, args []string) error {
			var now admin.AccessLog
			if len(args) == 0 {
				if err := p.Get(c.Context(), admin.PathAccessLog, &now); err != nil {
					return err
				}
				return p.Write(now, [][]any{{sentence(now)}})
			}
			wanted := admin.AccessLog{APIVersion: admin.APIVersion, Mesh: args[0] == "mesh"}
			if !wanted.Mesh {
				var err error
				if wanted.Sample, err = parseShare(args[0]); err != nil {
					return err
				}
			}
			if err := p.Post(c.Context(), admin.PathAccessLog, wanted, &now); err != nil {
				return err
			}
			return p.Write(now, [][]any{{sentence(now)}})
		},
	}
}

func parseShare(text string) (float64, error) {
	switch text {
	case "on":
		return 1, nil
	case "off":
		return 0, nil
	}
	share, err := strconv.ParseFloat(text, 64)
	if err != nil || !(share >= 0 && share <= 1) {
		return 0, fmt.Errorf("%q is not on, off, mesh, or a share from 0 to 1", text)
	}
	return share, nil
}

// sentence tells a share as it was given: the proxy keeps it as a fraction of 2^32.
func sentence(now admin.AccessLog) string {
	if now.Mesh {
		return fmt.Sprintf("access log: as the mesh's configuration says; a share of %.4g of what it says nothing of", now.Sample)
	}
	switch now.Sample {
	case 0:
		return "access log: off"
	case 1:
		return "access log: every request"
	}
	return fmt.Sprintf("access log: %.4g of all requests", now.Sample)
}
