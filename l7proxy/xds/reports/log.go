package reports

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/xds/expression"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

// maxConditions is how many conditions on requests the logs of a chain may have.
const maxConditions = 64

// log converts an access log, if it is one of a kind whose lines are ours.
func (c *Chain) log(p *problems.List, path string, m *accesslogv3.AccessLog) {
	switch typ, _, _ := typed.TypeOf(m.GetTypedConfig()); typ {
	case typed.TypeFileLog, typed.TypeStdoutLog, typed.TypeStderrLog:
	default:
		return
	}
	if c.rules.Log == nil {
		c.rules.Log = new(report.Log)
	}
	e := report.Expression{Kind: report.Always}
	if m.GetFilter() != nil {
		e = c.filter(p, path+".filter", m.GetFilter())
	}
	c.rules.Log.Any = append(c.rules.Log.Any, e)
}

func (c *Chain) filter(p *problems.List, path string, m *accesslogv3.AccessLogFilter) report.Expression {
	switch spec := m.GetFilterSpecifier().(type) {
	case *accesslogv3.AccessLogFilter_StatusCodeFilter:
		return compared(report.Code, spec.StatusCodeFilter.GetComparison())
	case *accesslogv3.AccessLogFilter_DurationFilter:
		return compared(report.Millis, spec.DurationFilter.GetComparison())
	case *accesslogv3.AccessLogFilter_AndFilter:
		return report.Expression{Kind: report.And, Of: c.filters(p, path+".and_filter", spec.AndFilter.GetFilters())}
	case *accesslogv3.AccessLogFilter_OrFilter:
		return report.Expression{Kind: report.Or, Of: c.filters(p, path+".or_filter", spec.OrFilter.GetFilters())}
	case *accesslogv3.AccessLogFilter_ResponseFlagFilter:
		return report.Expression{Kind: report.Flag, Texts: spec.ResponseFlagFilter.GetFlags()}
	case *accesslogv3.AccessLogFilter_ExtensionFilter:
		at := path + ".extension_filter.typed_config"
		cel := new(celv3.ExpressionFilter)
		if p.Unpack(at, spec.ExtensionFilter.GetTypedConfig(), cel) {
			return c.cel(p, at+".expression", cel.GetExpression())
		}
	}
	return report.Expression{Kind: report.Always} // not_health_check_filter: heartbeats have no lines
}

func (c *Chain) filters(p *problems.List, path string, list []*accesslogv3.AccessLogFilter) []report.Expression {
	all := make([]report.Expression, len(list))
	for i, one := range list {
		all[i] = c.filter(p, fmt.Sprintf("%s.filters[%d]", path, i), one)
	}
	return all
}

func compared(kind report.Kind, m *accesslogv3.ComparisonFilter) report.Expression {
	sign := map[accesslogv3.ComparisonFilter_Op]string{
		accesslogv3.ComparisonFilter_EQ: "==", accesslogv3.ComparisonFilter_GE: ">=",
		accesslogv3.ComparisonFilter_LE: "<=", accesslogv3.ComparisonFilter_NE: "!=",
	}[m.GetOp()]
	return between(kind, sign, int64(m.GetValue().GetDefaultValue()))
}

// between is a comparison of a number.
func between(kind report.Kind, sign string, n int64) report.Expression {
	e := report.Expression{Kind: kind, Min: math.MinInt64, Max: math.MaxInt64}
	switch sign {
	case "==", "!=":
		e.Min, e.Max = n, n
	case ">=":
		e.Min = n
	case "<=":
		e.Max = n
	case ">":
		e.Min = n + 1
	case "<":
		e.Max = n - 1
	}
	if sign == "!=" {
		return not(e)
	}
	return e
}

func not(e report.Expression) report.Expression {
	return report.Expression{Kind: report.Not, Of: []report.Expression{e}}
}

// cel reads the expression of a filter.
func (c *Chain) cel(p *problems.List, path, text string) report.Expression {
	n, err := expression.Read(text)
	if err != nil {
		p.Addf(path, "%.300q: not implemented: %v", text, err)
		return report.Expression{}
	}
	e, ok := c.expression(p, path, &n)
	if !ok {
		p.Addf(path, "%.300q: not implemented: only response.code, request.duration, xds.cluster_name, xds.route_name, %s, "+
			"compared with a number, a duration('...') or a text, joined by !, && and ||", text, attributes)
	}
	return e
}

func (c *Chain) expression(p *problems.List, path string, n *expression.Node) (e report.Expression, ok bool) {
	switch {
	case n.Kind == expression.Bool:
		if e.Kind = report.Always; n.Text == "false" {
			e = not(e)
		}
		return e, true
	case n.Kind == expression.Call:
		return c.call(p, path, n)
	case n.Kind != expression.Operator:
		return e, false
	case len(n.Of) == 2 && n.Text != "&&" && n.Text != "||":
		return c.comparison(p, path, n)
	}
	e.Kind = map[string]report.Kind{"!": report.Not, "&&": report.And, "||": report.Or}[n.Text]
	for i := range n.Of {
		one, ok := c.expression(p, path, &n.Of[i])
		if !ok {
			return e, false
		}
		e.Of = append(e.Of, one)
	}
	return e, true
}

// turned are the operators with their sides exchanged.
var turned = map[string]string{"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

// comparison reads what compares an attribute with something that is given.
func (c *Chain) comparison(p *problems.List, path string, n *expression.Node) (e report.Expression, ok bool) {
	left, right, sign := &n.Of[0], &n.Of[1], n.Text
	if left.Kind != expression.Attribute {
		left, right, sign = right, left, turned[sign]
	}
	if left.Kind != expression.Attribute {
		return e, false
	}
	switch {
	case left.Text == "response.code" && right.Kind == expression.Number:
		return between(report.Code, sign, right.Number), true
	case left.Text == "request.duration":
		limit, ok := duration(right)
		return between(report.Millis, sign, limit.Milliseconds()), ok
	case right.Kind != expression.Text || sign != "==" && sign != "!=":
		return e, false
	case left.Text == "xds.cluster_name":
		e = report.Expression{Kind: report.Cluster, Texts: []string{right.Text}}
	case left.Text == "xds.route_name":
		e = report.Expression{Kind: report.Route, Texts: []string{right.Text}}
	default:
		if e, ok = c.condition(p, path, left, report.Condition{Operator: report.Equals, Text: right.Text}); !ok {
			return e, false
		}
	}
	if sign == "!=" {
		e = not(e)
	}
	return e, true
}

// duration reads duration('1s'), in whole milliseconds.
func duration(n *expression.Node) (time.Duration, bool) {
	if n.Kind != expression.Call || n.Text != "duration" || len(n.Of) != 1 || n.Of[0].Kind != expression.Text {
		return 0, false
	}
	d, err := time.ParseDuration(n.Of[0].Text)
	return d, err == nil && d%time.Millisecond == 0
}

// functions are those of texts.
var functions = map[string]report.Operator{
	"startsWith": report.Starts, "endsWith": report.Ends, "contains": report.Contains, "matches": report.Matches,
}

// call reads a function: of a text, or has(response.code).
func (c *Chain) call(p *problems.List, path string, n *expression.Node) (e report.Expression, ok bool) {
	if n.Text == "has" && len(n.Of) == 1 && n.Of[0].Text == "response.code" {
		return not(report.Expression{Kind: report.Code}), true
	}
	operator, known := functions[n.Text]
	if !known || len(n.Of) != 2 || n.Of[1].Kind != expression.Text {
		return e, false
	}
	want := report.Condition{Operator: operator, Text: n.Of[1].Text}
	if operator == report.Matches {
		re, err := regexp.Compile(want.Text)
		if err != nil {
			p.Addf(path, "%v", err)
			return e, true
		}
		want.Regex = re
	}
	return c.condition(p, path, &n.Of[0], want)
}

// condition adds what is asked of an attribute of the request, which n names.
func (c *Chain) condition(p *problems.List, path string, n *expression.Node, want report.Condition) (e report.Expression, ok bool) {
	attribute, ok := attributeOf(p, path, n)
	if !ok {
		return e, false
	}
	want.Attribute = attribute
	at := slices.IndexFunc(c.rules.Conditions, func(is report.Condition) bool {
		return is.Attribute == want.Attribute && is.Operator == want.Operator && is.Text == want.Text
	})
	if at < 0 {
		if at = len(c.rules.Conditions); at == maxConditions {
			p.Addf(path, "is one condition on requests too many: there are no more than %d", maxConditions)
			return e, true
		}
		c.rules.Conditions = append(c.rules.Conditions, want)
	}
	return report.Expression{Kind: report.Holds, Min: int64(at)}, true
}
