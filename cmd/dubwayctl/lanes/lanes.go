// Package lanes holds the command that lists the node's lanes, and the lines that say of
// each name that was called whether it takes the lane. The proxy tells; here it becomes
// words.
package lanes

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/cmd/dubwayctl/ask"
	"github.com/dubway/dubway/internal/admin"
)

const long = `List the lanes: connections of consumers whose calls to providers of the same node the kernel
routes. REQUESTS took the lane; SLOW are messages of the consumer that went to the proxy since, and
RETURNED those of its providers. A PROVIDER in brackets takes no requests at present.

"dubwayctl routes" says of each name that was called whether it takes the lane, and why not.`

// Command returns the command.
func Command(p *ask.Params) *cobra.Command {
	return &cobra.Command{
		Use:   "lanes [CONSUMER]",
		Short: "List the connections whose calls the kernel routes",
		Long:  long,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var list admin.LaneList
			if err := p.Get(c.Context(), admin.PathLanes, &list); err != nil {
				return err
			}
			if len(args) > 0 {
				list.Items = slices.DeleteFunc(list.Items, func(l admin.LaneStatus) bool {
					return l.Workload != args[0] && !strings.HasPrefix(l.Consumer, args[0])
				})
			}
			return p.Write(list, table(&list))
		},
	}
}

func table(list *admin.LaneList) [][]any {
	if len(list.Items) == 0 {
		return [][]any{{none(list)}}
	}
	rows := [][]any{{
		"LANE", "CONSUMER", "ADDRESS", "DESTINATION", "PROVIDERS", "REQUESTS", "SLOW", "RETURNED", "IN FLIGHT", "STATE", "SINCE",
	}}
	for i := range list.Items {
		l := &list.Items[i]
		rows = append(rows, []any{
			l.Lane, l.Consumer, l.Address, l.Destination, providers(l.Providers), l.Requests, l.Slow, l.Returned, l.InFlight,
			because(l.State, l.Reason), l.Since.UTC().Format(time.RFC3339),
		})
	}
	return rows
}

// none says why there is no lane.
func none(list *admin.LaneList) string {
	switch list.Mode {
	case admin.LaneOn:
		return "No lanes: they begin when a consumer calls a provider of its own node often enough. " +
			"dubwayctl routes says of names why they have none."
	case admin.LaneObserve:
		return "No lanes: " + because("names are learned and no call takes one", list.Reason) + ". dubwayctl routes shows what would."
	}
	return "No lanes: " + because("they are off", list.Reason) + "."
}

func providers(ends []admin.LaneEnd) string {
	var names []string
	for _, e := range ends {
		name := e.Address
		if e.Provider != "" {
			name = e.Provider
		}
		if !e.Open {
			name = "(" + name + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func because(text, why string) string {
	if why == "" {
		return text
	}
	return text + ": " + why
}

// Names are the lines of what consumers have called, below a heading; none if that is nothing.
func Names(names []admin.LearnedName) [][]any {
	if len(names) == 0 {
		return nil
	}
	rows := [][]any{{"CONSUMER", "DESTINATION", "NAME", "SERIALIZATION", "ROUTE", "WAY", "IN LANE"}}
	for i := range names {
		n := &names[i]
		name := n.Interface + "." + n.Method
		if n.Version != "" {
			name += ":" + n.Version
		}
		rows = append(rows, []any{
			n.Consumer, n.Destination, name, n.Serialization, n.Route, because(n.Way, n.Reason), share(n),
		})
	}
	return rows
}

// share is a part in percent of how many: none is told from few, and few less than all from all.
func share(n *admin.LearnedName) string {
	all := n.InLane + n.ByProxy
	if all == 0 {
		return ""
	}
	percent := fmt.Sprintf("%.1f%%", min(100*n.Share(), 99.9))
	switch n.InLane {
	case 0:
		percent = "0%"
	case all:
		percent = "100%"
	}
	return fmt.Sprintf("%s of %d", percent, all)
}
