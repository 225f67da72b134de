package reports

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"
	"istio.io/api/envoy/extensions/stats"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/conditions"
	"github.com/dubway/dubway/l7proxy/xds/expression"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// maxTags bounds the labels that one metric gets: each of them multiplies its series.
const maxTags = 16

// isLabel tells the names that Prometheus takes.
var isLabel = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// own are the labels that Istio's metrics have here, by what of a request each says if it
// says anything that a tag may ask for.
var own = func() map[string]string {
	all := map[string]string{"dubbo_interface": "interface", "dubbo_method": "method"}
	for _, name := range []string{
		"connection_security_policy", "dubbo_consumer_application", "dubbo_exception", "dubbo_result", "dubbo_status",
		"reporter", "request_protocol", "response_code", "response_flags",
	} {
		all[name] = ""
	}
	for _, end := range []string{"source_", "destination_"} {
		for _, name := range []string{
			"app", "canonical_revision", "canonical_service", "cluster", "principal", "version", "workload", "workload_namespace",
		} {
			all[end+name] = ""
		}
	}
	for _, name := range []string{"destination_service", "destination_service_name", "destination_service_namespace"} {
		all[name] = ""
	}
	return all
}()

// labels are the labels of one metric in the making.
type labels struct {
	tags    map[string]report.Tag
	removed map[string]bool
	dropped bool
}

// metrics converts a stats.PluginConfig: what its entries say adds up.
func (c *Chain) metrics(p *problems.List, path string, config *anypb.Any) {
	m := new(stats.PluginConfig)
	if !config.MessageIs(m) || config.UnmarshalTo(m) != nil {
		p.Addf(path, "cannot be read as stats.PluginConfig")
		return
	}
	var all [report.NumMetrics]labels
	for i, one := range m.GetMetrics() {
		at := fmt.Sprintf("%s.metrics[%d]", path, i)
		metric, known := report.Named(one.GetName())
		switch {
		case known:
			c.change(p, at, one, all[metric:metric+1])
		case one.GetName() == "":
			c.change(p, at, one, all[:])
		case strings.HasSuffix(one.GetName(), "_messages_total"): // gRPC's streams: nothing here has messages
		default:
			p.Addf(at+".name", "%q is none of Istio's metrics", one.GetName())
		}
	}
	made := collect(&all)
	if c.rules.Metrics != nil && made != nil {
		p.Addf(path, "not implemented: a second stats filter that changes metrics")
	}
	if made != nil {
		c.rules.Metrics = made
	}
}

// change adds what one entry says of some metrics.
func (c *Chain) change(p *problems.List, path string, m *stats.MetricConfig, all []labels) {
	for i, name := range m.GetTagsToRemove() {
		if name == "reporter" {
			p.Addf(fmt.Sprintf("%s.tags_to_remove[%d]", path, i), "not implemented: both sides of a call would be one series")
		}
	}
	tags := make(map[string]*report.Tag)
	for _, name := range slices.Sorted(maps.Keys(m.GetDimensions())) {
		tags[name] = c.tag(p, fmt.Sprintf("%s.dimensions[%q]", path, name), name, m.GetDimensions()[name])
	}
	for i := range all {
		to := &all[i]
		if to.tags == nil {
			to.tags, to.removed = make(map[string]report.Tag), make(map[string]bool)
		}
		to.dropped = to.dropped || m.GetDrop()
		for _, name := range m.GetTagsToRemove() {
			delete(to.tags, name)
			to.removed[name] = isOwn(name)
		}
		for name, tag := range tags {
			if delete(to.removed, name); tag != nil {
				to.tags[name] = *tag
			}
		}
		if len(to.tags) > maxTags {
			p.Addf(path+".dimensions", "a metric gets no more than %d labels", maxTags)
			return
		}
	}
}

// tag reads a label that is added; nil if there is such a label already, or a problem was
// added.
func (c *Chain) tag(p *problems.List, path, name, text string) *report.Tag {
	tag, attribute, ok := c.value(p, path, text)
	switch is, isOwn := own[name]; {
	case !ok, isOwn && is != "" && is == attribute:
		return nil
	case isOwn:
		p.Addf(path, "not implemented: another value for a label that is there already. Remove it, or add one by another name")
		return nil
	case !isLabel.MatchString(name) || strings.HasPrefix(name, "__") || name == "le":
		p.Addf(path, "is no name for a label")
		return nil
	}
	tag.Name = name
	return &tag
}

func isOwn(name string) bool {
	_, ok := own[name]
	return ok
}

// value reads the expression of a tag: a text, or something of the request, whose attribute
// is returned too.
func (c *Chain) value(p *problems.List, path, text string) (t report.Tag, attribute string, ok bool) {
	n, err := expression.Read(text)
	if err != nil {
		p.Addf(path, "%.300q: not implemented: %v", text, err)
		return t, "", false
	}
	if n.Kind == expression.Text {
		return report.Tag{Kind: report.ValueText, Text: n.Text}, "", true
	}
	attribute, ok = attributeOf(p, path, &n)
	switch {
	case !ok:
		p.Addf(path, "%.300q: not implemented: only a text, %s", text, attributes)
	case attribute == "interface":
		t.Kind = report.ValueInterface
	case attribute == "method":
		t.Kind = report.ValueMethod
	case attribute == ":path":
		t.Kind = report.ValuePath
	default:
		t.Kind, t.At = report.ValueLabel, c.number(attribute)
	}
	return t, attribute, ok
}

// attributes are those that are read.
const attributes = "request.headers['NAME'], request.path, request.url_path and request.host"

// attributeOf returns the name that a header has to routes which says what an expression
// asks for; false if there is none.
func attributeOf(p *problems.List, path string, n *expression.Node) (string, bool) {
	if n.Kind != expression.Attribute {
		return "", false
	}
	if n.Text == "request.headers" && n.Keyed && n.Key != "" {
		h := snapshot.HeaderMatch{Name: n.Key}
		conditions.Attribute(p, path, &h)
		return n.Key, true
	}
	switch {
	case n.Keyed:
	case n.Text == "request.path", n.Text == "request.url_path":
		return ":path", true
	case n.Text == "request.host":
		return ":authority", true
	}
	return "", false
}

// collect puts the metrics with equal labels together; nil if nothing is changed.
func collect(all *[report.NumMetrics]labels) *report.Metrics {
	made := new(report.Metrics)
	for m := range report.NumMetrics {
		l := &all[m]
		if l.dropped {
			made.Dropped = made.Dropped.With(m)
			continue
		}
		var change report.Change
		for _, name := range slices.Sorted(maps.Keys(l.removed)) {
			if l.removed[name] { // it is there
				change.Removed = append(change.Removed, name)
			}
		}
		if len(l.tags)+len(change.Removed) == 0 {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(l.tags)) {
			change.Tags = append(change.Tags, l.tags[name])
		}
		same := func(c report.Change) bool {
			return slices.Equal(c.Tags, change.Tags) && slices.Equal(c.Removed, change.Removed)
		}
		at := slices.IndexFunc(made.Changes, same)
		if at < 0 {
			at = len(made.Changes)
			made.Changes = append(made.Changes, change)
		}
		made.Changes[at].Of = made.Changes[at].Of.With(m)
	}
	if made.Dropped == 0 && len(made.Changes) == 0 {
		return nil
	}
	return made
}
