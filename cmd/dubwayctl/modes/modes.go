// Package modes holds the command that says what the mesh does to a workload, and
// changes it. The proxy does it; here it is asked.
package modes

import (
	"github.com/spf13/cobra"

	"github.com/dubway/dubway/cmd/dubwayctl/ask"
	"github.com/dubway/dubway/internal/admin"
)

// Command returns the command.
func Command(p *ask.Params) *cobra.Command {
	return &cobra.Command{
		Use:     "mode [NAMESPACE/POD enforce|observe|off|default]",
		Aliases: []string{"modes"},
		Short:   "Say whether policies of a workload are enforced, observed, or it is left alone",
		Long: "List what the mesh does to this node's workloads, or change it for a pod, or with NAMESPACE/* for all\n" +
			"pods of a namespace, until the proxy ends. For good a pod's annotation dubway.io/mode says it, or else its\n" +
			"label of that name.\n\n" +
			"  enforce  policies decide (the default)\n" +
			"  observe  RBAC and rate limits are judged, counted and logged as would_deny and would_limit, and refuse\n" +
			"           nothing; routes change, copy and cut short nothing. All else holds as before\n" +
			"  off      connections are passed on as they are, to what was dialled. Open ones end when nothing is\n" +
			"           pending on them\n" +
			"  default  as the annotation or the label says",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return cobra.ExactArgs(2)(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			var list admin.ModeList
			var err error
			if len(args) == 0 {
				err = p.Get(c.Context(), admin.PathMode, &list)
			} else {
				err = p.Post(c.Context(), admin.PathMode, admin.ModeRequest{Workload: args[0], Mode: args[1]}, &list)
			}
			if err != nil {
				return err
			}
			return p.Write(list, table(list.Items))
		},
	}
}

func table(items []admin.ModeStatus) [][]any {
	rows := [][]any{{"WORKLOAD", "MODE", "BY"}}
	for _, m := range items {
		rows = append(rows, []any{m.Namespace + "/" + m.Name, m.Mode, m.By})
	}
	return rows
}
