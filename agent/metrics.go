package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/internal/admin"
)

// What is counted elsewhere, and read when somebody asks.
var (
	outcomesDesc = prometheus.NewDesc("dubway_datapath_outcomes_total",
		"What the programs decided, since the maps were made, by outcome.", []string{"outcome"}, nil)
	workloadsDesc = prometheus.NewDesc("dubway_workloads",
		"Pods of this node: enrolled, or not for a reason.", []string{"state", "reason"}, nil)
	problemsDesc = prometheus.NewDesc("dubway_workload_files_rejected",
		"Workload files, or pods' annotations, that cannot be used.", nil, nil)
	syncedDesc = prometheus.NewDesc("dubway_source_synced",
		"1 while it is known which pods the node has, of files or of the API server.", nil, nil)
	connectedDesc = prometheus.NewDesc("dubway_handoff_connected",
		"1 while a proxy is connected.", nil, nil)
	tablesDesc = prometheus.NewDesc("dubway_destination_tables",
		"Tables of destinations in force, by what becomes of connects to what is in none of their entries.", []string{"unknown"}, nil)
	destinationsDesc = prometheus.NewDesc("dubway_destinations",
		"Destinations in force, of all tables.", nil, nil)
	generationDesc = prometheus.NewDesc("dubway_destinations_generation",
		"Latest generation of a table in force; 0 for none.", nil, nil)
)

var _ prometheus.Collector = (*Agent)(nil)

// collectors are all that the agent's metrics come from.
func (a *Agent) collectors() []prometheus.Collector {
	all := append(a.counts.Collectors(), a, a.lanes, a.server.Desk.Counts())
	if a.chain != nil {
		all = append(all, a.chain)
	}
	return all
}

// Describe is part of prometheus.Collector.
func (a *Agent) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		outcomesDesc, workloadsDesc, problemsDesc, syncedDesc, connectedDesc, tablesDesc, destinationsDesc, generationDesc,
	} {
		descs <- d
	}
}

// Collect is part of prometheus.Collector.
func (a *Agent) Collect(metrics chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	outcomes, err := a.datapath.Counters()
	if err != nil {
		metrics <- prometheus.NewInvalidMetric(outcomesDesc, err)
	}
	for name, n := range outcomes {
		metrics <- prometheus.MustNewConstMetric(outcomesDesc, prometheus.CounterValue, float64(n), name)
	}
	enrolled, refused := 0, make(map[enroll.Class]int)
	for _, s := range a.enroller.Status() {
		if s.Enrolled {
			enrolled++
		} else {
			refused[s.Class]++
		}
	}
	gauge(workloadsDesc, float64(enrolled), "enrolled", "")
	for class, n := range refused {
		gauge(workloadsDesc, float64(n), "not_enrolled", string(class))
	}
	a.mu.Lock()
	problems := len(a.problems)
	a.mu.Unlock()
	gauge(problemsDesc, float64(problems))
	synced := 0.0
	var s admin.AgentStatus
	if a.sourceStatus(&s); s.Source.Synced {
		synced = 1
	}
	gauge(syncedDesc, synced)
	connected := 0.0
	if _, _, ok := a.server.Connected(); ok {
		connected = 1
	}
	gauge(connectedDesc, connected)
	a.collectTables(gauge)
}

func (a *Agent) collectTables(gauge func(desc *prometheus.Desc, value float64, labels ...string)) {
	tables, entries, generation := make(map[datapath.Unknown]int), 0, uint64(0)
	for _, t := range a.tables.Status() {
		tables[t.Unknown]++
		entries += t.Entries
		generation = max(generation, t.Generation)
	}
	for _, u := range []datapath.Unknown{datapath.PassUnknown, datapath.CountUnknown, datapath.RefuseUnknown} {
		gauge(tablesDesc, float64(tables[u]), u.String())
	}
	gauge(destinationsDesc, float64(entries))
	gauge(generationDesc, float64(generation))
}
