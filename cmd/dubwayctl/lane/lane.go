// Package lane holds the command that says whether same-node calls of a node may take lanes,
// and changes it. The agent does it; here it is asked.
package lane

import (
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/cmd/dubwayctl/ask"
	"github.com/dubway/dubway/internal/admin"
)

// Command returns the command.
func Command(p *ask.Params) *cobra.Command {
	return &cobra.Command{
		Use:   "lane [auto|on|observe|off]",
		Short: "Say whether same-node calls may take lanes, and why not",
		Long: "Show the mode of this node's lanes, and what their programs decided; or change the mode until the agent\n" +
			"ends. For good the agent's --lane says it, the chart's lane.mode. No call is lost by a change: lanes that\n" +
			"are to end are closed by the proxy, and their connections go on through it.\n\n" +
			"  auto     on where that is known to work: a listed build of the kernel, the self-test, nobody else's\n" +
			"           programs on sockets (the default)\n" +
			"  on       on, if the self-test passes\n" +
			"  observe  it is decided which calls would take a lane, and none does\n" +
			"  off      all calls take the proxy",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"auto", "on", "observe", "off"},
		RunE: func(c *cobra.Command, args []string) error {
			var lanes admin.NodeLanes
			var err error
			if len(args) == 0 {
				err = p.Get(c.Context(), admin.PathNodeLanes, &lanes)
			} else {
				err = p.Post(c.Context(), admin.PathNodeLanes, admin.LaneChoice{Mode: args[0]}, &lanes)
			}
			if err != nil {
				return err
			}
			return p.Write(lanes, table(&lanes))
		},
	}
}

func table(n *admin.NodeLanes) [][]any {
	rows := [][]any{
		{"MODE", n.Mode}, {"WHY", n.Why}, {"CHOSEN", n.Choice}, {"KERNEL", n.Build}, {"WORKLOADS", n.Workloads},
		{"EXCLUDED", n.Excluded}, {"OPEN", n.Open}, {"KEPT", n.Kept}, {"WITHOUT A PROXY", n.Left},
	}
	if n.ProxyRefused != "" {
		rows = append(rows, []any{"PROXY REFUSED", n.ProxyRefused})
	}
	for _, outcome := range slices.Sorted(maps.Keys(n.Outcomes)) {
		if n.Outcomes[outcome] > 0 { // most never happen
			rows = append(rows, []any{outcome, n.Outcomes[outcome]})
		}
	}
	return rows
}
