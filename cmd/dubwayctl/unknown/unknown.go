// Package unknown holds the command that lists what pods connect to and no entry of
// their table of destinations is for, where that is counted or refused. The agent
// tells; here it becomes words.
package unknown

import (
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/cmd/dubwayctl/ask"
	"github.com/dubway/dubway/internal/admin"
)

// Command returns the command.
func Command(p *ask.Params) *cobra.Command {
	return &cobra.Command{
		Use:     "unknown [NAMESPACE/NAME]",
		Aliases: []string{"unknowns"},
		Short:   "List what pods connect to and the mesh does not know, where that is refused or tried",
		Long: "List the addresses that a pod, or all pods, connected to and that no service of their configuration has,\n" +
			"where the outbound traffic policy REGISTRY_ONLY refuses those, or a dry run of it counts what it would\n" +
			"refuse: registries, databases and machines outside of the cluster are what it usually finds. What was\n" +
			"connected to last comes first. Some thousands fit in; `dubwayctl status` counts all, as the outcomes\n" +
			"unknown_refused and unknown_counted.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var list admin.UnknownList
			if err := p.Get(c.Context(), admin.PathUnknown, &list); err != nil {
				return err
			}
			if len(args) > 0 {
				list.Items = slices.DeleteFunc(list.Items, func(u admin.UnknownDestination) bool {
					return u.Namespace+"/"+u.Name != args[0] && u.Workload != args[0]
				})
			}
			return p.Write(list, table(list.Items))
		},
	}
}

func table(items []admin.UnknownDestination) [][]any {
	if len(items) == 0 {
		return [][]any{{"None. Only tables that count or refuse what they do not know list it: see dubwayctl workloads -o json."}}
	}
	rows := [][]any{{"WORKLOAD", "DESTINATION", "REFUSED", "WOULD BE REFUSED", "LAST"}}
	for i := range items {
		u := &items[i]
		rows = append(rows, []any{u.Namespace + "/" + u.Name, u.Destination, u.Refused, u.Passed, u.Last.UTC().Format(time.RFC3339)})
	}
	return rows
}
