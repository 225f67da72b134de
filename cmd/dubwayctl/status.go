package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/cmd/dubwayctl/identities"
	"github.com/dubway/dubway/internal/admin"
)

// nodeStatus is the document of the status command. What cannot be asked is nil,
// and its error says why.
type nodeStatus struct {
	APIVersion string                 `json:"apiVersion"`
	Agent      *admin.AgentStatus     `json:"agent"`
	AgentError string                 `json:"agentError,omitempty"`
	Proxy      *admin.ProxyStatus     `json:"proxy"`
	ProxyError string                 `json:"proxyError,omitempty"`
	Workloads  []admin.WorkloadStatus `json:"workloads"`
}

func (e *env) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show agent, proxy, programs, maps and workloads",
		Long:  "Show agent, proxy, programs, maps and workloads. Fails if one of the two processes does not answer.",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := e.status(c.Context())
			if printErr := e.write(s, s.table); printErr != nil {
				return printErr
			}
			return err
		},
	}
}

// status asks both processes; what one does not tell, the other still does.
func (e *env) status(ctx context.Context) (*nodeStatus, error) {
	s := &nodeStatus{APIVersion: admin.APIVersion, Workloads: []admin.WorkloadStatus{}}
	agent, proxy := e.agent(), e.proxy()
	defer agent.Close()
	defer proxy.Close()

	var agentStatus admin.AgentStatus
	agentErr := agent.Get(ctx, admin.PathStatus, &agentStatus)
	if agentErr == nil {
		s.Agent = &agentStatus
	} else {
		s.AgentError = agentErr.Error()
	}
	var proxyStatus admin.ProxyStatus
	proxyErr := proxy.Get(ctx, admin.PathStatus, &proxyStatus)
	if proxyErr == nil {
		s.Proxy = &proxyStatus
	} else {
		s.ProxyError = proxyErr.Error()
	}
	if agentErr == nil {
		list, err := e.workloads(ctx)
		if err != nil {
			return s, err
		}
		s.Workloads = list.Items
	}
	return s, errors.Join(agentErr, proxyErr)
}

func (s *nodeStatus) table(t *table) {
	s.agentTable(t)
	t.gap()
	s.proxyTable(t)
	if len(s.Workloads) > 0 {
		t.gap()
		workloadTable(t, s.Workloads)
	}
	for i, problem := range s.problems() {
		if i == 0 {
			t.gap()
			t.linef("Problems")
		}
		t.linef("  %s", problem)
	}
}

func (s *nodeStatus) agentTable(t *table) {
	a := s.Agent
	if a == nil {
		t.linef("dubway-agent: no answer")
		return
	}
	t.linef("dubway-agent: %s", process(a.Process))
	t.row("  pods from", a.Source)
	t.row("  cgroup", a.Cgroup)
	t.row("  pins", a.PinPath)
	proxy := "not connected"
	if a.ProxyConnected {
		proxy = fmt.Sprintf("connected, pid %d", a.ProxyPID)
	}
	t.row("  proxy", proxy)
	t.row("  destinations", fmt.Sprintf("generation %d; %d table(s)", a.Generation, len(a.Tables)))
	if k := a.Kubelet; k != nil {
		t.row("  kubelet's probes", kubelet(k))
	}
	if a.Lanes != nil {
		t.row("  lanes", a.Lanes)
	}
	t.row("  workloads", fmt.Sprintf("%d enrolled, %d not enrolled", a.Workloads.Enrolled, a.Workloads.NotEnrolled))
	t.gap()
	t.row("PROGRAM", "ID", "TAG", "ATTACHED")
	for _, p := range a.Programs {
		attached := p.Attached
		if attached == "" {
			attached = "NO"
		}
		t.row(p.Name, p.ID, p.Tag, attached)
	}
	t.gap()
	t.row("MAP", "TYPE", "ENTRIES", "MAX")
	for _, m := range a.Maps {
		entries := fmt.Sprint(m.Entries)
		if m.Entries < 0 {
			entries = "not counted"
		}
		t.row(m.Name, m.Type, entries, m.Max)
	}
	t.gap()
	t.row("OUTCOME", "COUNT")
	for _, name := range slices.Sorted(maps.Keys(a.Counters)) {
		if a.Counters[name] > 0 { // most never happen
			t.row(name, a.Counters[name])
		}
	}
}

func (s *nodeStatus) proxyTable(t *table) {
	p := s.Proxy
	if p == nil {
		t.linef("dubway-proxy: no answer")
		return
	}
	t.linef("dubway-proxy: %s", process(p.Process))
	t.row("  agent", map[bool]string{true: "connected", false: "not connected"}[p.AgentConnected])
	t.row("  capabilities", capabilities(p.Capabilities))
	t.row("  configuration", fmt.Sprintf("generation %d from %s", p.Generation, p.Source))
	if p.ControlPlane != nil {
		t.row("  control plane", p.ControlPlane)
	}
	t.row("  resources", fmt.Sprintf("%d listeners, %d routes, %d clusters, %d endpoints; %d rejected",
		p.Snapshot.Listeners, p.Snapshot.Routes, p.Snapshot.Clusters, p.Snapshot.Endpoints, len(p.Rejections)))
	t.row("  connections", fmt.Sprintf("%d downstream, %d upstream", p.Connections.Downstream, p.Connections.Upstream))
	t.row("  memory", p.Memory)
	for i := range p.Collectors {
		t.row("  spans", &p.Collectors[i])
	}
	t.row("  access log", map[bool]string{true: "on", false: "off"}[p.AccessLog])
	for i, row := range identities.Rows(p.Identities) {
		if i == 0 {
			t.gap()
		}
		t.row(row...)
	}
	for i, a := range p.StaleAddresses {
		if i == 0 {
			t.gap()
			t.row("STALE ADDRESS", "INTERFACE", "CONSUMER", "REQUESTS", "LAST")
		}
		t.row(a.Address, a.Interface, a.Consumer, a.Count, a.Last.Format(time.RFC3339))
	}
}

// problems are the sentences that an operator should act on.
func (s *nodeStatus) problems() []string {
	var list []string
	if s.AgentError != "" {
		list = append(list, s.AgentError)
	}
	if s.ProxyError != "" {
		list = append(list, s.ProxyError)
	}
	if s.Agent != nil {
		list = append(list, s.Agent.Problems...)
	}
	if s.Proxy != nil {
		list = append(list, s.Proxy.Problems...)
		for _, r := range s.Proxy.Rejections {
			list = append(list, "rejected: "+rejectionLine(&r))
		}
	}
	return list
}

func process(p admin.Process) string {
	text := fmt.Sprintf("%s, pid %d, uid %d, up %s", p.Release, p.PID, p.UID, p.Uptime)
	if p.Node != "" {
		text += ", node " + p.Node
	}
	return text
}

func capabilities(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, " ")
}

func rejectionLine(r *admin.Rejection) string {
	line := r.Kind + " " + r.Name
	if r.Field != "" {
		line += " " + r.Field
	}
	line += ": " + r.Reason
	if r.File != "" {
		line += " (" + r.File + ")"
	}
	return line
}
