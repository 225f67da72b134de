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
		Use:   "accesslog [on|off|SHARE]",
		Short: "Show or switch the proxy's access log",
		Long: "Show or switch the proxy's access log: on, off, or the share of requests that are logged, from 0 to 1.\n" +
			"It lasts until the proxy restarts, which starts with its flag --access-log-sample.",
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: []string{"on", "off"},
		RunE: func(c *cobra.Command, args []string) error {
			var now admin.AccessLog
			if len(args) == 0 {
				if err := p.Get(c.Context(), admin.PathAccessLog, &now); err != nil {
					return err
				}
				return p.Write(now, [][]any{{sentence(now)}})
			}
			share, err := parseShare(args[0])
			if err != nil {
				return err
			}
			wanted := admin.AccessLog{APIVersion: admin.APIVersion, Sample: share}
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
		return 0, fmt.Errorf("%q is not on, off, or a share from 0 to 1", text)
	}
	return share, nil
}

func sentence(now admin.AccessLog) string {
	switch now.Sample {
	case 0:
		return "access log: off"
	case 1:
		return "access log: every request"
	}
	return fmt.Sprintf("access log: %v of all requests", now.Sample)
}
