package counters

import "github.com/dubway/dubway/l7proxy/xds/views"

// Control lists what is counted of the control plane.
func Control(totals func() views.Totals) []Counter {
	return []Counter{
		Gauge("dubway_xds_views", "Views of the mesh that the control plane is asked for: workloads that see the same have one.",
			func() float64 { return float64(totals().Views) }),
		Gauge("dubway_xds_connected", "Views for which the control plane has answered on the stream that is open.",
			func() float64 { return float64(totals().Connected) }),
		Count("dubway_xds_updates_total", "Updates of the control plane, with and without news.",
			func() uint64 { return totals().Updates }),
		Count("dubway_xds_refused_updates_total", "Updates that were refused, for the resources of them that were rejected.",
			func() uint64 { return totals().Refused }),
		Count("dubway_xds_reconnects_total", "Streams to the control plane after the first one of each view.",
			func() uint64 { return totals().Reconnects }),
	}
}
