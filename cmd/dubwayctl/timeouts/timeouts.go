// Package timeouts holds the command that lists the calls whose route allows longer
// than their consumer waits. The proxy tells; here it becomes a table.
package timeouts

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/cmd/dubwayctl/ask"
	"github.com/dubway/dubway/internal/admin"
)

// list is what the command prints.
type list struct {
	APIVersion string                  `json:"apiVersion"`
	Items      []admin.InvertedTimeout `json:"items"`
}

// Command returns the command.
func Command(p *ask.Params) *cobra.Command {
	return &cobra.Command{
		Use:   "timeouts",
		Short: "List calls whose route allows longer than their consumer waits",
		Long: "List calls whose route allows longer than their consumer waits, with both times. A consumer says in\n" +
			"each request how long it waits (its attachment timeout, or timeout-countdown). Where its route allows\n" +
			"longer, the consumer's time holds, and the provider may still work for somebody who has gone: set the\n" +
			"route's timeout at or below what its consumers wait for, or let them wait longer.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var status admin.ProxyStatus
			if err := p.Get(c.Context(), admin.PathStatus, &status); err != nil {
				return err
			}
			l := list{APIVersion: admin.APIVersion, Items: status.InvertedTimeouts}
			if l.Items == nil {
				l.Items = []admin.InvertedTimeout{}
			}
			return p.Write(&l, table(l.Items))
		},
	}
}

func table(items []admin.InvertedTimeout) [][]any {
	if len(items) == 0 {
		return [][]any{{"No call's route allows longer than its consumer waits."}}
	}
	rows := [][]any{{"CONSUMER", "INTERFACE", "METHOD", "ROUTE ALLOWS", "CONSUMER WAITS", "REQUESTS", "LAST", "ROUTE"}}
	for i := range items {
		a := &items[i]
		millis := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
		rows = append(rows, []any{a.Consumer, a.Interface, a.Method, millis(a.RouteMillis), millis(a.ConsumerMillis), a.Count,
			a.Last.Format(time.RFC3339), a.Route})
	}
	return rows
}
