// Package shape is how the configuration changes the labels of series: which metrics of a
// call are counted as always, which with other labels, and which not at all. It counts
// nothing.
package shape

import (
	"slices"
	"strings"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/budget"
)

// Part is some metrics of one side of a call, or of both, that have the same labels.
type Part struct {
	Reporter rpc.Reporter
	Of       report.Set
	Change   *report.Change // nil: Istio's labels
	side     *report.Side
}

// Parts returns the parts of a call. Each side is in exactly one without a Change, which
// may have no metric at all: the mesh's own go by it.
func Parts(c *rpc.Call) []Part {
	t := c.Told
	if t == nil || metrics(&t.Source) == nil && metrics(&t.Destination) == nil {
		return []Part{{Reporter: c.Reporter, Of: report.Every}}
	}
	var all []Part
	if c.Reporter&rpc.ReporterSource != 0 {
		all = append(all, parts(rpc.ReporterSource, &t.Source)...)
	}
	if c.Reporter&rpc.ReporterDestination != 0 {
		all = append(all, parts(rpc.ReporterDestination, &t.Destination)...)
	}
	return all
}

func metrics(s *report.Side) *report.Metrics {
	if s.Rules == nil {
		return nil
	}
	return s.Rules.Metrics
}

func parts(reporter rpc.Reporter, side *report.Side) []Part {
	m := metrics(side)
	plain := Part{Reporter: reporter, Of: report.Every}
	if m == nil {
		return []Part{plain}
	}
	plain.Of &^= m.Dropped
	all := []Part{plain}
	for i := range m.Changes {
		change := &m.Changes[i]
		all[0].Of &^= change.Of
		if of := change.Of &^ m.Dropped; of != 0 {
			all = append(all, Part{Reporter: reporter, Of: of, Change: change, side: side})
		}
	}
	return all
}

// separator is between values; it is in none of them, since they are UTF-8.
const separator = "\xff"

// Values returns what the part's tags are of calls of an interface and a method, as their
// labels are: equal ones are equal.
func (p *Part) Values(iface, method string) string {
	values := make([]string, len(p.Change.Tags))
	for i, t := range p.Change.Tags {
		switch t.Kind {
		case report.ValueText:
			values[i] = strings.ToValidUTF8(t.Text, "\uFFFD")
		case report.ValueInterface:
			values[i] = iface
		case report.ValueMethod:
			values[i] = method
		case report.ValuePath:
			values[i] = "/" + iface + "/" + method
		case report.ValueLabel:
			values[i] = budget.Unknown
			if t.At < len(p.side.Values) {
				values[i] = p.side.Values[t.At]
			}
		}
		if values[i] == "" { // of a connection
			values[i] = budget.Unknown
		}
	}
	return strings.Join(values, separator)
}

// Others is the part with Other in place of what requests say.
func (p *Part) Others() *Part {
	made, side := *p, *p.side
	side.Values = make([]string, len(side.Rules.Labels))
	for i := range side.Values {
		side.Values[i] = budget.Other
	}
	made.side = &side
	return &made
}

// Labels returns the labels of a series as a change has them; tags are as of Values.
func Labels(c *report.Change, tags string, names, values []string) (changedNames, changedValues []string) {
	if c == nil {
		return names, values
	}
	for i, name := range names {
		if !slices.Contains(c.Removed, name) {
			changedNames, changedValues = append(changedNames, name), append(changedValues, values[i])
		}
	}
	if len(c.Tags) > 0 {
		for i, value := range strings.Split(tags, separator) {
			changedNames, changedValues = append(changedNames, c.Tags[i].Name), append(changedValues, value)
		}
	}
	return changedNames, changedValues
}

// Clear empties what a change removes of the values that are called so: nobody is told
// apart by what is not shown.
func Clear(c *report.Change, values map[string]*string) {
	for _, name := range c.Removed {
		if v := values[name]; v != nil {
			*v = ""
		}
	}
}
