// Package views holds the command that tells what the control plane is asked for, and what
// it said. The proxy tells; here it becomes a table.
package views

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/cmd/dubwayctl/ask"
	"github.com/dubway/dubway/internal/admin"
)

// list is what the command prints.
type list struct {
	APIVersion   string              `json:"apiVersion"`
	Source       string              `json:"source"`
	ControlPlane *admin.ControlPlane `json:"controlPlane,omitempty"`
	Rejections   []admin.Rejection   `json:"rejections"`
}

// Command returns the command.
func Command(p *ask.Params) *cobra.Command {
	return &cobra.Command{
		Use:   "xds",
		Short: "List what the control plane is asked for, and what it said",
		Long: "List the views of the mesh that the control plane is asked for: pods that see the same share one. For\n" +
			"each: as which pod it is asked for, since when the stream is open, or why it is not, when the last update\n" +
			"came, what it holds, and how much of it is rejected. What is rejected, and why, follows.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var s admin.ProxyStatus
			if err := p.Get(c.Context(), admin.PathStatus, &s); err != nil {
				return err
			}
			l := list{APIVersion: admin.APIVersion, Source: s.Source, ControlPlane: s.ControlPlane, Rejections: s.Rejections}
			return p.Write(&l, table(&l))
		},
	}
}

func table(l *list) [][]any {
	if l.ControlPlane == nil {
		return [][]any{{"Configuration comes from " + l.Source + ": there is no control plane."}}
	}
	rows := [][]any{{
		"VIEW", "WORKLOADS", "STATE", "SINCE", "LAST UPDATE", "UPDATES",
		"CLUSTERS", "LISTENERS", "ROUTES", "ENDPOINTS", "REJECTED", "ASKED AS",
	}}
	for i := range l.ControlPlane.Views {
		v := &l.ControlPlane.Views[i]
		updated := "never"
		if v.Updated != nil {
			updated = v.Updated.Format(time.RFC3339)
		}
		rows = append(rows, []any{
			v.Key, len(v.Workloads), state(v), v.Since.Format(time.RFC3339), updated, v.Updates,
			v.Snapshot.Clusters, v.Snapshot.Listeners, v.Snapshot.Routes, v.Snapshot.Endpoints, v.Rejected, v.Node,
		})
	}
	for i := range l.ControlPlane.Views {
		v := &l.ControlPlane.Views[i]
		for j := range v.RouteServers {
			r := &v.RouteServers[j]
			if problem := r.Problem(v.Key); problem != "" {
				rows = append(rows, []any{problem})
				continue
			}
			rows = append(rows, []any{fmt.Sprintf("server of routes %s of %s: connected to %s since %s, %d of %d tables",
				r.Cluster, v.Key, r.Address, r.Since.Format(time.RFC3339), r.Wanted-r.Missing, r.Wanted)})
		}
	}
	for _, r := range l.Rejections {
		rows = append(rows, []any{fmt.Sprintf("rejected: %s %s: %s: %s", r.Kind, r.Name, r.Field, r.Reason)})
	}
	return rows
}

// state is a view's, in a word or two.
func state(v *admin.ControlView) string {
	switch {
	case v.Connected:
		return "connected"
	case v.Kept:
		return "away, kept on disk"
	case v.Updated == nil:
		return "waiting"
	}
	return "away"
}
