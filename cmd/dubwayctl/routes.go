package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/cmd/dubwayctl/lanes"
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds"
)

func (e *env) routesCommand() *cobra.Command {
	var paths []string
	c := &cobra.Command{
		Use:     "routes",
		Aliases: []string{"route"},
		Short:   "List the routes in the order in which they are tried",
		Long: "List the routes in the order in which they are tried: those that the proxy uses, or with --xds those of files.\n" +
			"Below those that the proxy uses: what consumers of this node have called, by WAY of the lane or of the proxy and why,\n" +
			"and which share of such calls took the lane.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var list admin.RouteList
			if len(paths) > 0 {
				list = l7proxy.Routes(e.load(paths))
			} else {
				proxy := e.proxy()
				defer proxy.Close()
				if err := proxy.Get(c.Context(), admin.PathRoutes, &list); err != nil {
					return err
				}
			}
			return e.write(list, func(t *table) { routeTable(t, &list) })
		},
	}
	c.Flags().StringArrayVar(&paths, "xds", nil, "xDS `file` or directory to read instead of asking the proxy")
	return c
}

func routeTable(t *table, list *admin.RouteList) {
	if len(list.Items) == 0 {
		t.linef("No routes: nothing is steered. The proxy reads xDS from the directory of its flag --xds-dir,\n" +
			"or asks the control plane of --xds-server.")
		return
	}
	for i := range list.Items {
		r := &list.Items[i]
		if i == 0 || r.View != list.Items[i-1].View {
			if r.View != "" {
				t.linef("VIEW %s", r.View)
			}
			t.row("DESTINATION", "ROUTE", "MATCH", "CLUSTERS", "PATH")
		}
		targets := make([]string, len(r.Clusters))
		for j := range r.Clusters {
			targets[j] = target(&r.Clusters[j], len(r.Clusters) > 1)
		}
		name := r.Name
		if name == "" {
			name = r.Origin
		}
		t.row(r.Address, name, r.Match, strings.Join(targets, ", "), r.Path)
	}
	for i, row := range lanes.Names(list.Names) {
		if i == 0 {
			t.gap()
		}
		t.row(row...)
	}
}

// target tells of a cluster: its weight among others, and how many of its
// endpoints are healthy.
func target(c *admin.RouteTarget, weighted bool) string {
	text := c.Cluster
	if weighted {
		text = fmt.Sprintf("%d %s", c.Weight, text)
	}
	if len(c.Subset) > 0 {
		text += subset(c.Subset)
	}
	if !c.Known {
		return text + " (no such cluster)"
	}
	return fmt.Sprintf("%s (%d of %d healthy)", text, c.Healthy, c.Endpoints)
}

func subset(keys map[string]string) string {
	pairs := make([]string, 0, len(keys))
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		pairs = append(pairs, key+"="+keys[key])
	}
	return "[" + strings.Join(pairs, ",") + "]"
}

// load reads xDS files. What is rejected is told, and left out as the proxy
// would leave it out.
func (e *env) load(paths []string) *snapshot.Snapshot {
	loaded, rejected := xds.Load(paths)
	for i := range rejected {
		_, _ = fmt.Fprintln(e.stderr, "rejected:", rejectedLine(&rejected[i]))
	}
	return loaded
}
