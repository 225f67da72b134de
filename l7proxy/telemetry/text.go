package telemetry

import (
	"bufio"
	"fmt"
	"io"
	"strconv"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/telemetry/histogram"
	"github.com/dubway/dubway/l7proxy/telemetry/names"
)

// WriteText writes the Recorder's metrics in Prometheus' text format 0.0.4.
//
// Istio's labels make a line of a kilobyte, and a histogram has 22 of them. So
// the labels of a series are put together once, and lines are copied: through
// client_golang's registry the same text costs tens of times the CPU, which the
// node's calls would feel at each scrape.
func (r *Recorder) WriteText(out io.Writer) error {
	w := &textWriter{Writer: bufio.NewWriterSize(out, 64<<10)}
	found := r.collect()
	r.writeOwn(w)
	w.family("dubway_overhead_seconds", "histogram", "What the mesh itself added to a call that reached a provider.")
	for _, s := range found.overheads {
		w.histogram(s.labels, histogram.Overheads, &s.Tally)
	}
	w.family("dubway_serialization_requests_total", "counter", "Dubbo requests by the serialization of their body.")
	for _, s := range found.serializations {
		w.line("", s.labels, s.total)
	}
	w.shares(found.spoke)
	w.requests(found.requests)
	w.connections(found.tcp)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	return nil
}

// writeOwn writes what the Recorder tells of itself.
func (r *Recorder) writeOwn(w *textWriter) {
	if r.log != nil {
		w.family("dubway_access_log_dropped_total", "counter", "Access log lines that were lost because the log's reader is slow.")
		w.line("", "", r.log.Dropped())
	}
	w.family("dubway_label_budget_exceeded_total", "counter", "Requests whose name or status is counted as other, by label.")
	if r.apps != nil {
		w.line("", `label="dubbo_consumer_application"`, r.apps.Exceeded())
	}
	w.line("", `label="dubbo_exception"`, r.classes.Exceeded())
	w.line("", `label="dubbo_interface"`, r.names.Exceeded(names.OverInterfaces))
	w.line("", `label="dubbo_method"`, r.names.Exceeded(names.OverMethods))
	w.line("", `label="response_code"`, r.strangers.Load())
	if n := r.tags.Exceeded(); n > 0 {
		w.line("", `label="tag"`, n)
	}
}

// textWriter writes one family after the other. An error stays in the
// bufio.Writer until Flush.
type textWriter struct {
	*bufio.Writer

	name    string
	scratch []byte
}

func (w *textWriter) requests(list []*requestSeries) {
	w.family("istio_request_bytes", "histogram", "Size of requests, with the protocol's header.")
	for _, s := range list {
		w.histogram(s.labels, histogram.Sizes, &s.request)
	}
	w.family("istio_request_duration_milliseconds", "histogram", "From a request's last byte to its answer's.")
	for _, s := range list {
		w.histogram(s.labels, histogram.Durations, &s.duration)
	}
	w.family("istio_requests_total", "counter", "Requests that ended, in whatever way.")
	for _, s := range list {
		if s.total > 0 {
			w.line("", s.labels, s.total)
		}
	}
	w.family("istio_response_bytes", "histogram", "Size of answers, with the protocol's header.")
	for _, s := range list {
		w.histogram(s.labels, histogram.Sizes, &s.response)
	}
}

func (w *textWriter) connections(list []*tcpSeries) {
	counter := func(name, help string, value func(*tcpSeries) uint64, shown func(*tcpSeries) bool) {
		w.family(name, "counter", help)
		for _, s := range list {
			if shown(s) {
				w.line("", s.labels, value(s))
			}
		}
	}
	opened := func(s *tcpSeries) bool { return s.opened > 0 }
	closed := func(s *tcpSeries) bool { return s.closed > 0 }
	received := func(s *tcpSeries) bool { return s.of.Has(report.Received) }
	sent := func(s *tcpSeries) bool { return s.of.Has(report.Sent) }
	counter("istio_tcp_connections_closed_total", "Opaque connections closed.",
		func(s *tcpSeries) uint64 { return s.closed }, closed)
	counter("istio_tcp_connections_opened_total", "Opaque connections opened.",
		func(s *tcpSeries) uint64 { return s.opened }, opened)
	counter("istio_tcp_received_bytes_total", "Bytes from consumers on opaque connections, counted at their end.",
		func(s *tcpSeries) uint64 { return s.received }, received)
	counter("istio_tcp_sent_bytes_total", "Bytes from providers on opaque connections, counted at their end.",
		func(s *tcpSeries) uint64 { return s.sent }, sent)
}

// family begins a family: the lines that follow have its name.
func (w *textWriter) family(name, kind, help string) {
	w.name = name
	w.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n")
}

// histogram writes one that has values: the configuration may have dropped it.
func (w *textWriter) histogram(labels string, l *histogram.Layout, t *histogram.Tally) {
	if t.Total() == 0 {
		return
	}
	var seen uint64
	for i := range histogram.NumBounds {
		seen += t.Counts[i]
		w.bucket(labels, l.Text[i], seen)
	}
	w.bucket(labels, "+Inf", seen+t.Counts[histogram.NumBounds])
	w.scratch = strconv.AppendFloat(w.scratch[:0], float64(t.Sum)/l.Unit, 'g', -1, 64)
	w.begin("_sum", labels)
	w.end()
	w.line("_count", labels, t.Total())
}

func (w *textWriter) bucket(labels, le string, n uint64) {
	w.WriteString(w.name)
	w.WriteString("_bucket{")
	w.WriteString(labels)
	w.WriteString(`,le="`)
	w.WriteString(le)
	w.WriteString(`"} `)
	w.scratch = strconv.AppendUint(w.scratch[:0], n, 10)
	w.end()
}

// line writes one line with a whole number.
func (w *textWriter) line(suffix, labels string, n uint64) {
	w.begin(suffix, labels)
	w.scratch = strconv.AppendUint(w.scratch[:0], n, 10)
	w.end()
}

func (w *textWriter) begin(suffix, labels string) {
	w.WriteString(w.name)
	w.WriteString(suffix)
	if labels != "" {
		w.WriteByte('{')
		w.WriteString(labels)
		w.WriteByte('}')
	}
	w.WriteByte(' ')
}

// end writes the value and ends the line.
func (w *textWriter) end() {
	w.Write(w.scratch)
	w.WriteByte('\n')
}

// appendLabels appends name="value" for each label. Values are UTF-8, whatever
// else they are.
func appendLabels(b []byte, names, values []string) []byte {
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, name...), '=', '"')
		for j := range len(values[i]) {
			switch c := values[i][j]; c {
			case '\\', '"':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			default:
				b = append(b, c)
			}
		}
		b = append(b, '"')
	}
	return b
}
