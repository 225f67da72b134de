package main

import "strings"

// ofService chooses the requests that the variables of services name.
const ofService = `reporter="$reporter",destination_workload_namespace=~"$namespace",destination_service=~"$service"`

// ofNode chooses the proxies that the variable of nodes names.
const ofNode = `instance=~"$instance"`

// perSecond is how fast a counter grows, by labels that are separated by commas; with none, in all.
func perSecond(counter, choice, by string) string {
	return sum("rate("+counter+"{"+choice+"}[$__rate_interval])", by)
}

func sum(expr, by string) string {
	if by == "" {
		return "sum(" + expr + ")"
	}
	return "sum by (" + by + ") (" + expr + ")"
}

// quantile is one of a histogram.
func quantile(q, histogram, choice, by string) string {
	by = strings.TrimSuffix("le, "+by, ", ")
	return "histogram_quantile(" + q + ", " + perSecond(histogram+"_bucket", choice, by) + ")"
}

// mean is that of a histogram.
func mean(histogram, choice string) string {
	return perSecond(histogram+"_sum", choice, "") + " / " + perSecond(histogram+"_count", choice, "")
}

const (
	requests  = "istio_requests_total"
	durations = "istio_request_duration_milliseconds"
)

func services() board {
	return board{
		title:       "Dubway / Services",
		description: "Dubbo calls as the node's proxies saw them: how many, how fast, how they ended.",
		variables: []variable{
			{name: "reporter", label: "Counted by", fixed: "destination,source"},
			{name: "namespace", label: "Namespace", query: "label_values(istio_requests_total, destination_workload_namespace)"},
			{name: "service", label: "Service", query: "label_values(istio_requests_total, destination_service)"},
		},
		rows: append(ofCalls(), ofPeers()...),
	}
}

// calls is a panel of requests by labels, of those that more chooses too.
func calls(title, more, by, description string) panel {
	return graph(title, "reqps", query{perSecond(requests, ofService+more, by), legend(by)}, description)
}

// ofCalls are the rows about how calls end.
func ofCalls() []row {
	return []row{
		{"Calls", []panel{
			calls("Calls", "", "destination_service",
				"Calls that ended, in whatever way."),
			graph("Calls that were answered OK", "percentunit", query{
				perSecond(requests, ofService+`,dubbo_result=~"value|exception|none"`, "destination_service") + " / " +
					perSecond(requests, ofService, "destination_service"), "{{destination_service}}",
			}, "A business exception is an answer. One-way calls count as soon as they are sent."),
			{title: "Latency", unit: "ms", description: "From a request's last byte to its answer's.", queries: []query{
				{quantile("0.50", durations, ofService, ""), "p50"},
				{quantile("0.95", durations, ofService, ""), "p95"},
				{quantile("0.99", durations, ofService, ""), "p99"},
			}},
		}},
		{"How they ended", []panel{
			stacked(calls("Results", "", "dubbo_result",
				"value, exception (a business exception), error (a status other than OK), local (the mesh answered), "+
					"gone (the consumer left), none (one-way).")),
			stacked(calls("Status other than OK", `,dubbo_status!="ok"`, "dubbo_status",
				"Dubbo's status; - is no answer.")),
			stacked(calls("Flags", `,response_flags!="-"`, "response_flags",
				"Envoy's flags: NR no route, UH no endpoint, UF no connection, "+
					"UC the provider closed, UO a limit, UAEX denied, RL a rate limit, FI a fault.")),
			stacked(calls("Business exceptions", `,dubbo_exception!="-"`, "dubbo_exception",
				"By class, as the provider wrote it.")),
			stacked(calls("Security", "", "connection_security_policy",
				"mutual_tls, node_local (both are pods of one node) or none.")),
			stacked(graph("Serialization", "reqps", query{
				perSecond("dubway_serialization_requests_total",
					`reporter="$reporter",destination_service=~"$service"`, "dubbo_serialization"),
				"{{dubbo_serialization}}",
			}, "Of requests' bodies.")),
		}},
	}
}

// ofPeers are the rows about what is called, and by whom.
func ofPeers() []row {
	return []row{
		{"Methods", []panel{
			calls("Calls by method", "", "dubbo_interface, dubbo_method",
				"Names that a provider has confirmed; others are other."),
			graph("p99 by method", "ms", query{
				quantile("0.99", durations, ofService, "dubbo_interface, dubbo_method"), legend("dubbo_interface, dubbo_method"),
			}, ""),
			calls("Not OK by method", `,dubbo_result=~"error|local|gone"`, "dubbo_interface, dubbo_method",
				"Errors, local replies of the mesh, and consumers that left."),
		}},
		{"Who calls whom", []panel{
			calls("By consumer", "", "source_workload_namespace, source_workload", ""),
			calls("By provider", "", "destination_workload, destination_version",
				"Shares of versions show here."),
			{title: "Mean size", unit: "bytes", description: "With the protocol's header.", queries: []query{
				{mean("istio_request_bytes", ofService), "requests"}, {mean("istio_response_bytes", ofService), "answers"},
			}},
		}},
		{"Opaque connections", []panel{
			{title: "Connections", unit: "cps", description: "What is relayed unread.", queries: []query{
				{perSecond("istio_tcp_connections_opened_total", ofService, ""), "opened"},
				{perSecond("istio_tcp_connections_closed_total", ofService, ""), "closed"},
			}},
			{title: "Bytes", unit: "Bps", description: "Counted at a connection's end.", queries: []query{
				{perSecond("istio_tcp_received_bytes_total", ofService, ""), "from consumers"},
				{perSecond("istio_tcp_sent_bytes_total", ofService, ""), "from providers"},
			}},
		}},
	}
}

// legend names lines by labels that are separated by commas.
func legend(by string) string {
	return "{{" + strings.ReplaceAll(by, ", ", "}} {{") + "}}"
}

// rate is a panel of a counter's growth on the chosen nodes.
func rate(title, counter, by, description string) panel {
	return graph(title, "ops", query{perSecond(counter, ofNode, by), legend(by)}, description)
}

// gauge is a panel of a gauge on each of the chosen nodes.
func gauge(title, unit, name, description string) panel {
	return graph(title, unit, query{name + "{" + ofNode + "}", "{{instance}}"}, description)
}
