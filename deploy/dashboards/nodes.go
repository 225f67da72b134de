package main

func nodes() board {
	return board{
		title:       "Dubway / Nodes",
		description: "Agents and proxies: whether they are there, what they hold, what they are refused.",
		variables:   []variable{{name: "instance", label: "Proxy", query: "label_values(dubway_proxy_workloads, instance)"}},
		rows:        append(ofLoad(), ofParts()...),
	}
}

// ofLoad are the rows about what there is to do.
func ofLoad() []row {
	return []row{
		{"Pods", []panel{
			stacked(graph("Pods", "short", query{"sum by (state) (dubway_workloads{" + ofNode + "})", "{{state}}"},
				"Of the chosen nodes.")),
			graph("Not enrolled", "short", query{`sum by (reason) (dubway_workloads{` + ofNode + `,reason!=""})`, "{{reason}}"},
				"By reason; kubectl get pod has it too, as the condition dubway.io/enrolled."),
			{title: "Agents and proxies", unit: "short", description: "Below the number of nodes, something is away.", queries: []query{
				{"sum(dubway_agent_up{" + ofNode + "})", "agents that answer"},
				{"sum(dubway_handoff_connected{" + ofNode + "})", "agents with a proxy"},
				{"count(dubway_proxy_workloads{" + ofNode + "})", "proxies"},
			}},
		}},
		{"Load", []panel{
			gauge("Connections of pods", "short", "dubway_connections_active", ""),
			{title: "What the mesh adds to a call", unit: "s", queries: []query{
				{quantile("0.50", "dubway_overhead_seconds", ofNode, ""), "p50"},
				{quantile("0.99", "dubway_overhead_seconds", ofNode, ""), "p99"},
			}},
			graph("Processor", "percentunit",
				query{"rate(process_cpu_seconds_total{" + ofNode + "}[$__rate_interval])", "{{instance}}"},
				"Of the proxy; 100 % is one processor."),
			gauge("Memory", "bytes", "process_resident_memory_bytes", "Of the proxy."),
			gauge("Memory level", "short", "dubway_memory_level",
				"0 calm, 1 tight (no new connections), 2 full (the heaviest workload is refused)."),
			{title: "Refused connections", unit: "cps",
				description: "Over a workload's limit, for want of memory, or not steered by anybody.",
				queries: []query{
					{perSecond("dubway_connections_limited_total", ofNode, ""), "over a limit"},
					{perSecond("dubway_connections_tight_total", ofNode, ""), "memory"},
					{perSecond("dubway_connections_direct_total", ofNode, ""), "direct"},
					{perSecond("dubway_accept_errors_total", ofNode, ""), "accept failed"},
				}},
		}},
	}
}

// ofParts are the rows about what each part does.
func ofParts() []row {
	return []row{
		{"Kernel", []panel{
			rate("Outcomes", "dubway_datapath_outcomes_total", "outcome", "What the programs decided."),
			rate("Sockets that proxies asked for", "dubway_dials_total", "result", ""),
			gauge("Destinations", "short", "dubway_destinations", "In force, of all tables."),
		}},
		{"Lane", []panel{
			{title: "Calls", unit: "reqps", stack: true, description: "Of the chosen nodes' consumers: in the kernel, and by the proxy.",
				queries: []query{{
					perSecond("dubway_serialization_requests_total", ofNode+`,reporter="source"`, "lane"), "lane {{lane}}",
				}}},
			graph("Share", "percentunit", query{
				perSecond("dubway_serialization_requests_total", ofNode+`,reporter="source",lane="true"`, "") + " / " +
					perSecond("dubway_serialization_requests_total", ofNode+`,reporter="source"`, ""), "in the lane",
			}, "dubwayctl routes says of each name why it is not."),
			gauge("Lanes", "short", "dubway_lanes", "Connections of consumers."),
			rate("Closed", "dubway_lanes_closed_total", "reason", ""),
			{title: "Not in the lane though there was one", unit: "ops", queries: []query{
				{perSecond("dubway_lane_slow_total", ofNode, ""), "from consumers"},
				{perSecond("dubway_lane_returned_total", ofNode, ""), "from providers"},
				{perSecond("dubway_lane_resyncs_total", ofNode, ""), "behind others"},
				{perSecond("dubway_lane_full_total", ofNode, ""), "no room"},
			}},
			rate("Not told of one by one", "dubway_lane_log_dropped_total", "instance", "Beyond --lane-log."),
		}},
		{"Configuration", []panel{
			{title: "Views", unit: "short", description: "Kinds of workloads, each with its stream.", queries: []query{
				{"sum(dubway_xds_views{" + ofNode + "})", "views"}, {"sum(dubway_xds_connected{" + ofNode + "})", "connected"},
			}},
			{title: "Rejected", unit: "short", description: "dubwayctl status says what and why.", queries: []query{
				{"sum(increase(dubway_xds_rejections_total{" + ofNode + "}[$__rate_interval]))", "resources"},
				{"sum(increase(dubway_xds_refused_updates_total{" + ofNode + "}[$__rate_interval]))", "updates with some"},
			}},
			rate("Updates", "dubway_xds_updates_total", "instance", "With and without news."),
		}},
		{"Identity", []panel{
			gauge("Accounts without a valid certificate", "short", "dubway_certificate_missing", ""),
			graph("Next certificate expires in", "s", query{
				"min by (instance) (dubway_certificate_expires_timestamp_seconds{" + ofNode + "} > 0) - time()", "{{instance}}",
			}, "They are renewed at half of their life, a day unless istiod says otherwise."),
			rate("Certificates asked for", "dubway_certificate_renewals_total", "result", ""),
		}},
		{"What is lost", []panel{
			rate("Labels over their budget", "dubway_label_budget_exceeded_total", "label", "Requests that are counted as other."),
			rate("Lines of the access log", "dubway_access_log_dropped_total", "instance", "Its reader is slow."),
			rate("Spans", "dubway_spans_dropped_total", "reason", ""),
		}},
	}
}

func policies() board {
	return board{
		title:       "Dubway / Policies",
		description: "What routes and policies did to calls.",
		variables:   []variable{{name: "instance", label: "Proxy", query: "label_values(dubway_proxy_workloads, instance)"}},
		rows: []row{
			{"Authorization and mutual TLS", []panel{
				rate("Verdicts", "dubway_rbac_total", "mode, result", "would_deny is of workloads that are only observed."),
				graph("Denied by policy", "ops", query{
					perSecond("dubway_rbac_total", ofNode+`,result=~"denied|would_deny"`, "policy"), "{{policy}}",
				}, ""),
				rate("Refused for want of mutual TLS", "dubway_tls_refused_total", "side, reason", "docs/mtls.md has the reasons."),
				rate("Handshakes", "dubway_tls_handshakes_total", "side", ""),
			}},
			{"Limits and faults", []panel{
				rate("Local rate limits", "dubway_local_rate_limit_total", "filter, result", ""),
				rate("Global rate limits", "dubway_global_rate_limit_total", "filter, result", "error: the service did not answer."),
				rate("Faults", "dubway_faults_total", "filter, result", ""),
			}},
			{"Endpoints", []panel{
				rate("Ejections", "dubway_outlier_ejections_total", "detector", ""),
				{title: "Left alone", unit: "short", queries: []query{
					{"sum(dubway_outlier_ejected{" + ofNode + "})", "ejected"},
					{"sum(dubway_health_unhealthy{" + ofNode + "})", "failed their health check"},
				}},
				{title: "Connections to providers", unit: "short", queries: []query{
					{"sum(dubway_upstream_connections{" + ofNode + "})", "live"},
					{"sum(increase(dubway_upstream_dial_failures_total{" + ofNode + "}[$__rate_interval]))", "could not be made"},
				}},
			}},
			{"Requests that are sent again, copied or changed", []panel{
				{title: "Retries", unit: "ops", queries: []query{
					{perSecond("dubway_retries_total", ofNode, ""), "sent again"},
					{perSecond("dubway_retries_refused_total", ofNode, ""), "over the budget"},
					{perSecond("dubway_delayed_export_retries_total", ofNode, ""), "not exported yet"},
				}},
				{title: "Mirrors", unit: "ops", queries: []query{
					{perSecond("dubway_mirrored_requests_total", ofNode, ""), "sent"},
					{perSecond("dubway_mirrored_dropped_total", ofNode, ""), "dropped"},
				}},
				rate("Edited answers", "dubway_edited_answers_total", "result", ""),
				rate("Callbacks", "dubway_callbacks_total", "outcome", ""),
				rate("Inverted timeouts", "dubway_inverted_timeouts_total", "instance",
					"A route allows longer than its consumer waits: dubwayctl timeouts."),
				rate("Stale addresses", "dubway_stale_address_total", "instance",
					"Calls to an address that serves them no more: dubwayctl doctor."),
			}},
		},
	}
}
