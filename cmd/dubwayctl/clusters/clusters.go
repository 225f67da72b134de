// Package clusters holds the command that lists the endpoints of the proxy's clusters,
// and which of them are left alone and why. The proxy tells; here it becomes words.
package clusters

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/cmd/dubwayctl/ask"
	"github.com/dubway/dubway/internal/admin"
)

// Command returns the command.
func Command(p *ask.Params) *cobra.Command {
	return &cobra.Command{
		Use:     "clusters [NAME]",
		Aliases: []string{"cluster", "endpoints"},
		Short:   "List the endpoints of clusters, and which are left alone and why",
		Long: "List the endpoints of the clusters whose names contain NAME, or of all: which take requests, and which\n" +
			"are left alone because the control plane says so, because they failed their health checks, because\n" +
			"outlier detection ejected them, or because they cannot be connected to.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var list admin.ClusterList
			if err := p.Get(c.Context(), admin.PathClusters, &list); err != nil {
				return err
			}
			if len(args) > 0 {
				list.Items = slices.DeleteFunc(list.Items, func(s admin.ClusterStatus) bool { return !strings.Contains(s.Name, args[0]) })
			}
			return p.Write(list, table(list.Items))
		},
	}
}

func table(items []admin.ClusterStatus) [][]any {
	if len(items) == 0 {
		return [][]any{{"No such clusters."}}
	}
	rows := [][]any{{"CLUSTER", "POLICY", "ENDPOINT", "LOCALITY", "PRIORITY", "WEIGHT", "ACTIVE", "STATE"}}
	for i := range items {
		c := &items[i]
		note := func(text string) { rows = append(rows, []any{c.Name, c.Policy, "", "", "", "", "", text}) }
		if len(c.Endpoints) == 0 {
			note("no endpoints")
		}
		for j := range c.Endpoints {
			e := &c.Endpoints[j]
			rows = append(rows, []any{c.Name, c.Policy, e.Address, e.Locality, e.Priority, e.Weight, e.Active, state(e)})
		}
		for _, text := range c.Unresolved {
			note("not resolved: " + text)
		}
	}
	return rows
}

// state says in words whether an endpoint takes requests.
func state(e *admin.EndpointStatus) string {
	var why []string
	if !e.Healthy {
		why = append(why, "unhealthy, says the control plane")
	}
	switch {
	case e.Unfit && e.Failure != "":
		why = append(why, "fails its checks: "+e.Failure)
	case e.Unfit:
		why = append(why, "waits for its checks")
	}
	if e.Ejected {
		why = append(why, "ejected: too many errors")
	}
	switch {
	case e.Avoided && e.Failures > 0:
		why = append(why, fmt.Sprintf("avoided: %d connects failed", e.Failures))
	case e.Avoided:
		why = append(why, "avoided: about to stop")
	}
	if len(why) == 0 {
		return "ok"
	}
	return strings.Join(why, "; ")
}
