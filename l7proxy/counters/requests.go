package counters

import (
	"github.com/dubway/dubway/l7proxy/mtls"
	"github.com/dubway/dubway/l7proxy/trace"
)

// requests tell what became of requests beside their records.
func (s *Sources) requests() []Counter {
	u := s.Upstream
	return []Counter{
		Count("dubway_stale_address_total",
			"Requests to an address that does not serve them any more; dubwayctl doctor lists them.", s.Stale.Total),
		Count("dubway_inverted_timeouts_total",
			"Requests whose route allows longer than their consumer waits; dubwayctl timeouts lists them.", s.Inverted.Total),
		Count("dubway_delayed_export_retries_total",
			"Requests that another endpoint got because a provider did not export their interface yet.", u.DelayedExports.Load),
		Count("dubway_retries_total", "Requests that were sent again by their route's retry policy.", u.Retries.Load),
		Count("dubway_retries_refused_total",
			"Retries that were not made because the cluster had as many in flight as it may.", u.RetriesRefused.Load),
		Count("dubway_mirrored_requests_total", "Copies of requests that were sent to shadow services.", s.Mirror.Sent.Load),
		Count("dubway_mirrored_dropped_total",
			"Copies that were dropped because the shadow service could not be reached or was too slow.", s.Mirror.Dropped.Load),
	}
}

// answers tell what became of answers that are edited, and of requests that providers make.
func (s *Sources) answers() []Counter {
	answer := func(result string, f func() uint64) Counter {
		return labelled("dubway_edited_answers_total", "Answers of routes that edit attachments, by what became of them.",
			map[string]string{"result": result}, f)
	}
	callback := func(outcome string, f func() uint64) Counter {
		return labelled("dubway_callbacks_total", "Requests of providers to their consumers, by how they ended.",
			map[string]string{"outcome": outcome}, f)
	}
	edited, callbacks := &s.Upstream.Postscripts, &s.Upstream.Callbacks
	return []Counter{
		answer("edited", edited.Edited.Load),
		answer("unreadable", edited.Unreadable.Load),
		answer("large", edited.Large.Load),
		answer("unattached", edited.Unattached.Load),
		callback("answered", callbacks.Answered.Load),
		callback("one_way", callbacks.OneWay.Load),
		callback("refused", callbacks.Refused.Load),
		callback("gone", callbacks.Gone.Load),
	}
}

// tls tells of the mesh's TLS.
func (s *Sources) tls() []Counter {
	var list []Counter
	for side, name := range []string{mtls.ClientSide: "client", mtls.ServerSide: "server"} {
		list = append(list, labelled("dubway_tls_handshakes_total", "Connections that mutual TLS was agreed on.",
			map[string]string{"side": name}, s.TLS.Handshakes[side].Load))
		for r := range mtls.Reasons {
			list = append(list, labelled("dubway_tls_refused_total",
				"Connections that were not made or taken for want of mutual TLS, by reason.",
				map[string]string{"side": name, "reason": mtls.Reason(r).String()}, s.TLS.Refused[side][r].Load))
		}
	}
	return list
}

// spans tell what became of spans.
func (s *Sources) spans() []Counter {
	list := []Counter{Count("dubway_spans_exported_total", "Spans that collectors have taken.", s.Spans.Exported.Load)}
	for d := range trace.Drop(trace.Drops) {
		list = append(list, labelled("dubway_spans_dropped_total", "Spans that no collector has taken, by why.",
			map[string]string{"reason": d.String()}, s.Spans.Dropped[d].Load))
	}
	return list
}
