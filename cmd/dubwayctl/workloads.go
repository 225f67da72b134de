package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/internal/admin"
)

func (e *env) workloadsCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "workloads",
		Aliases: []string{"workload", "pods"},
		Short:   "List this node's pods: enrolled, or why not",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := e.workloads(c.Context())
			if err != nil {
				return err
			}
			return e.write(list, func(t *table) {
				if len(list.Items) == 0 {
					t.linef("No workloads. dubway-agent takes them from the API server (label dubway.io/mesh: enabled of a " +
						"namespace or a pod), or from the directory of its flag --workloads.")
					return
				}
				workloadTable(t, list.Items)
			})
		},
	}
}

// workloads asks the agent, and the proxy for the connections if it answers.
func (e *env) workloads(ctx context.Context) (*admin.WorkloadList, error) {
	agent, proxy := e.agent(), e.proxy()
	defer agent.Close()
	defer proxy.Close()
	var list, seen admin.WorkloadList
	if err := agent.Get(ctx, admin.PathWorkloads, &list); err != nil {
		return nil, err
	}
	if proxy.Get(ctx, admin.PathWorkloads, &seen) != nil {
		return &list, nil
	}
	connections := make(map[string]admin.Connections, len(seen.Items))
	for i := range seen.Items {
		connections[seen.Items[i].UID] = seen.Items[i].Connections
	}
	for i := range list.Items {
		list.Items[i].Connections = connections[list.Items[i].UID]
	}
	return &list, nil
}

func workloadTable(t *table, items []admin.WorkloadStatus) {
	t.row("WORKLOAD", "ADDRESSES", "PORTS", "CONNECTIONS", "ENROLLED")
	for i := range items {
		w := &items[i]
		ports := make([]string, len(w.Ports))
		for j, port := range w.Ports {
			ports[j] = fmt.Sprint(port)
		}
		enrolled := "yes"
		if !w.Enrolled {
			enrolled = "no: " + w.Reason
		}
		t.row(w.Namespace+"/"+w.Name, strings.Join(w.Addresses, ","), strings.Join(ports, ","), w.Connections.Downstream, enrolled)
	}
}

// completeWorkloads offers the names of pods to the shell.
func (e *env) completeWorkloads(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	list, err := e.workloads(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, len(list.Items))
	for i := range list.Items {
		names[i] = list.Items[i].Namespace + "/" + list.Items[i].Name
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
