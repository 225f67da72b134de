package agent

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/version"
)

// handler answers on the admin socket. Everything on it only reads.
func (a *Agent) handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(a.collectors()...)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+admin.PathStatus, func(w http.ResponseWriter, _ *http.Request) {
		admin.WriteJSON(w, a.status())
	})
	mux.HandleFunc("GET "+admin.PathWorkloads, func(w http.ResponseWriter, _ *http.Request) {
		admin.WriteJSON(w, a.workloads())
	})
	mux.HandleFunc("GET "+admin.PathUnknown, func(w http.ResponseWriter, _ *http.Request) {
		list, err := a.unknown()
		if err != nil {
			admin.WriteError(w, http.StatusInternalServerError, err)
			return
		}
		admin.WriteJSON(w, list)
	})
	mux.Handle(admin.PathNodeLanes, a.lanes.Handler())
	mux.HandleFunc("GET "+admin.PathReady, func(w http.ResponseWriter, _ *http.Request) {
		sayReady(w, a.turn.Now(), a.lacks())
	})
	mux.Handle("GET "+admin.PathMetrics, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError,
	}))
	return mux
}

// lacks says why the agent does not serve yet; "" if it does, or did once.
func (a *Agent) lacks() string {
	if a.served.Load() {
		return ""
	}
	select {
	case <-a.server.Served():
		a.served.Store(true)
		return ""
	default:
	}
	select {
	case <-a.ready:
	default:
		var s admin.AgentStatus
		a.sourceStatus(&s)
		return strings.TrimSuffix("pods are not known yet: "+s.Source.Waiting, ": ")
	}
	if _, _, ok := a.server.Connected(); !ok {
		return "no proxy is connected"
	}
	return "the proxy has no configuration yet"
}

// sayReady answers whether an agent serves.
func sayReady(w http.ResponseWriter, role admin.Role, lacks string) {
	if lacks != "" {
		admin.WriteError(w, http.StatusServiceUnavailable, fmt.Errorf("the agent is %s and not ready: %s", role, lacks))
		return
	}
	admin.WriteJSON(w, admin.AgentReady{APIVersion: admin.APIVersion, Role: role})
}

// status gathers what dubwayctl status shows.
func (a *Agent) status() admin.AgentStatus {
	s := admin.AgentStatus{
		APIVersion: admin.APIVersion, Role: a.turn.Now(), Cgroup: a.opts.Cgroup, PinPath: a.opts.PinPath,
		Process: admin.Process{
			Release: version.Version, PID: os.Getpid(), UID: os.Getuid(), Started: a.started,
			Uptime: time.Since(a.started).Round(time.Second).String(), Node: a.opts.NodeName,
			Capabilities: host.Capabilities(),
		},
	}
	named := a.sourceStatus(&s)
	s.Problems, s.Conflicts = a.addDatapath(&s, s.Problems), a.conflicts.Found()
	a.kubelet.Report(&s)
	nodeLanes := a.lanes.Status()
	if s.Lanes = &nodeLanes; a.lanes.Problem() != "" {
		s.Problems = append(s.Problems, a.lanes.Problem())
	}
	if pid, refused, ok := a.server.Connected(); ok {
		s.ProxyConnected, s.ProxyPID = true, pid
		for uid, text := range refused {
			s.Problems = append(s.Problems, fmt.Sprintf("the proxy refused workload %s: %s", uid, text))
		}
	} else {
		s.Problems = append(s.Problems, "no proxy is connected: connections of enrolled pods wait")
	}
	for _, w := range a.enroller.Status() {
		if w.Enrolled {
			s.Workloads.Enrolled++
			continue
		}
		s.Workloads.NotEnrolled++
		s.Problems = append(s.Problems, fmt.Sprintf("workload %s is not enrolled: %s", w.Pod.UID, w.Reason))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.problems {
		s.Problems = append(s.Problems, fmt.Sprintf("%s%s: %v", named, p.Name, p.Err))
	}
	slices.Sort(s.Problems)
	return s
}

// addDatapath fills in what the kernel tells.
func (a *Agent) addDatapath(s *admin.AgentStatus, problems []string) []string {
	loaded, err := a.loaded.Status()
	if err != nil {
		problems = append(problems, err.Error())
	}
	s.Generation, s.Tables = loaded.Generation, []admin.Table{}
	for _, t := range a.tables.Status() {
		table := document(t.TableStatus)
		table.Workloads, table.Earlier = t.Workloads, t.Earlier
		s.Tables = append(s.Tables, table)
	}
	s.Programs, s.Maps = []admin.Program{}, []admin.Map{}
	for _, p := range loaded.Programs {
		s.Programs = append(s.Programs, admin.Program{Name: p.Name, ID: p.ID, Tag: p.Tag, Attached: p.Attached})
		if p.Attached == "" {
			problems = append(problems, fmt.Sprintf("program %s is not attached", p.Name))
		}
	}
	for _, m := range loaded.Maps {
		s.Maps = append(s.Maps, admin.Map{Name: m.Name, ID: m.ID, Type: m.Type, Entries: m.Entries, Max: m.MaxEntries})
	}
	if s.Counters, err = a.datapath.Counters(); err != nil {
		problems = append(problems, err.Error())
	}
	return problems
}

// workloads lists every pod that the source tells of, enrolled or not.
func (a *Agent) workloads() admin.WorkloadList {
	list := admin.WorkloadList{APIVersion: admin.APIVersion, Items: []admin.WorkloadStatus{}}
	for _, s := range a.enroller.Status() {
		item := admin.WorkloadStatus{
			UID: s.Pod.UID, Name: s.Pod.Name, Namespace: s.Pod.Namespace, Ports: s.Pod.Ports, Labels: s.Pod.Labels,
			ServiceAccount: s.Pod.ServiceAccount, Netns: s.Pod.Netns, NetnsCookie: s.Cookie, Cgroup: s.Pod.Cgroup,
			Enrolled: s.Enrolled, Reason: s.Reason,
		}
		if t, ok := a.tables.Of(s.Pod.UID); ok {
			table := document(t)
			item.Table = &table
		}
		for _, addr := range s.Pod.Addresses {
			item.Addresses = append(item.Addresses, addr.String())
		}
		list.Items = append(list.Items, item)
	}
	return list
}

func document(t datapath.TableStatus) admin.Table {
	return admin.Table{Number: t.Number, Generation: t.Generation, Entries: t.Entries, Unknown: t.Unknown.String()}
}

// unknown lists the destinations that no entry is for, of the pods that are enrolled.
func (a *Agent) unknown() (admin.UnknownList, error) {
	list := admin.UnknownList{APIVersion: admin.APIVersion, Items: []admin.UnknownDestination{}}
	all, err := a.datapath.Unknowns()
	if err != nil {
		return list, err
	}
	workloads, _ := a.enroller.Workloads()
	whose := make(map[uint64]*pods.Pod, len(workloads))
	for _, w := range workloads {
		whose[w.Cookie] = w.Pod
	}
	for _, u := range all {
		if pod := whose[u.Cookie]; pod != nil {
			list.Items = append(list.Items, admin.UnknownDestination{
				Workload: pod.UID, Name: pod.Name, Namespace: pod.Namespace, Destination: u.To.String(),
				Passed: u.Passed, Refused: u.Refused, Last: u.Last,
			})
		}
	}
	slices.SortFunc(list.Items, func(x, y admin.UnknownDestination) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name), y.Last.Compare(x.Last))
	})
	return list, nil
}
