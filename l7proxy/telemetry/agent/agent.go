// Package agent gathers dubway-agent's metrics by its admin socket, so that a
// node has one address to scrape. It makes none of its own but dubway_agent_up.
package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/dubway/dubway/internal/admin"
)

const (
	// timeout is how long a scrape waits for the agent.
	timeout = 2 * time.Second
	// maxText is the largest answer of the agent, in bytes.
	maxText = 4 << 20
	// prefix is how the agent's own metrics begin. Others, such as its runtime's,
	// would collide with the proxy's.
	prefix = "dubway_"
)

// Asked reads a text from the agent; admin.Client does.
type Asked interface {
	Text(ctx context.Context, path string, limit int64) ([]byte, error)
}

var _ Asked = (*admin.Client)(nil)

// Gatherer gathers the agent's metrics.
type Gatherer struct {
	agent Asked
	log   *slog.Logger
}

// NewGatherer returns a Gatherer that asks at each scrape. Safe for concurrent
// use.
func NewGatherer(agent Asked, log *slog.Logger) *Gatherer { return &Gatherer{agent: agent, log: log} }

var _ prometheus.Gatherer = (*Gatherer)(nil)

// Gather returns the agent's metrics and whether it answered; never an error,
// for the proxy's own metrics do not depend on the agent.
func (g *Gatherer) Gather() ([]*dto.MetricFamily, error) {
	families, err := g.fetch()
	if err != nil {
		g.log.Debug("agent's metrics are missing", "err", err)
	}
	return append(families, up(err == nil)), nil
}

func (g *Gatherer) fetch() ([]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	text, err := g.agent.Text(ctx, admin.PathMetrics, maxText)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	parsed, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("parse agent's metrics: %w", err)
	}
	families := make([]*dto.MetricFamily, 0, len(parsed))
	for name, family := range parsed {
		if strings.HasPrefix(name, prefix) {
			families = append(families, family)
		}
	}
	return families, nil
}

func up(up bool) *dto.MetricFamily {
	name, help, kind, value := "dubway_agent_up", "Whether dubway-agent answers on its admin socket.", dto.MetricType_GAUGE, 0.0
	if up {
		value = 1
	}
	return &dto.MetricFamily{
		Name: &name, Help: &help, Type: &kind,
		Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: &value}}},
	}
}
