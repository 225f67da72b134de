package telemetry

import (
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/telemetry/agent"
)

// maxScrapes is how many scrapes are answered at a time.
const maxScrapes = 4

// Handler answers /metrics with the Recorder's metrics, with what own gathers
// and with the agent's metrics. If the agent does not answer in two seconds,
// dubway_agent_up is 0 and the rest is as always.
func (r *Recorder) Handler(own prometheus.Gatherer, of agent.Asked, log *slog.Logger) http.Handler {
	gatherers := prometheus.Gatherers{own, agent.NewGatherer(of, log)}
	scrapes := make(chan struct{}, maxScrapes)
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		select {
		case scrapes <- struct{}{}:
			defer func() { <-scrapes }()
		default:
			http.Error(w, "too many scrapes at a time", http.StatusServiceUnavailable)
			return
		}
		out, closeOut := compressed(w, request)
		if err := r.expose(out, gatherers, log); err != nil {
			log.Debug("scrape ended early", "err", err)
			return
		}
		if err := closeOut(); err != nil {
			log.Debug("scrape ended early", "err", err)
		}
	})
}

// compressed returns where to write the answer: most of it is labels, which
// shrink to a fortieth.
func compressed(w http.ResponseWriter, request *http.Request) (out io.Writer, closeOut func() error) {
	w.Header().Set("Content-Type", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	w.Header().Add("Vary", "Accept-Encoding")
	if !strings.Contains(request.Header.Get("Accept-Encoding"), "gzip") {
		return w, func() error { return nil }
	}
	w.Header().Set("Content-Encoding", "gzip")
	zip, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // errs for unknown levels alone
	return zip, zip.Close
}

// expose writes what can be gathered, then the Recorder's own metrics.
func (r *Recorder) expose(out io.Writer, gatherers prometheus.Gatherers, log *slog.Logger) error {
	families, err := gatherers.Gather()
	if err != nil {
		log.Warn("some metrics cannot be gathered", "err", err)
	}
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(out, family); err != nil {
			return fmt.Errorf("write metrics: %w", err)
		}
	}
	return r.WriteText(out)
}

// AccessLogHandler answers GET with which requests are logged, and sets it on POST: admin.AccessLog both ways.
func (r *Recorder) AccessLogHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if request.Method == http.MethodPost {
			var wanted admin.AccessLog
			err := admin.ReadJSON(request, &wanted)
			switch {
			case err != nil:
			case wanted.Mesh:
				err = r.Follow()
			default:
				err = r.SetSample(wanted.Sample)
			}
			if err != nil {
				admin.WriteError(w, http.StatusBadRequest, err)
				return
			}
		}
		admin.WriteJSON(w, admin.AccessLog{APIVersion: admin.APIVersion, Sample: r.Sample(), Mesh: r.Follows()})
	})
}
