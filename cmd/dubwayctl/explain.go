package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy"
)

// question is what the flags of explain ask.
type question struct {
	xds         []string
	from, to    string
	principal   string
	call        string
	group       string
	version     string
	attachments []string
	args        []string
}

func (e *env) explainCommand() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "explain (--xds PATH | --from POD) --to ADDR:PORT|HOST[:PORT] [--call IFACE.METHOD]",
		Short: "Say where a call would go, and which objects decide it",
		Long: "Say where a call would go, and which objects decide it: by the configuration that the proxy uses\n" +
			"now for the pod, or with --xds by files. Without --call it is a connection that is not Dubbo. A host\n" +
			"is found in that configuration, not in DNS; within a cluster its name may be short, as the pod has it.",
		Example: "  dubwayctl explain --from shop/consumer-0 --to provider:20880 --call org.example.Greeter.greet\n" +
			"  dubwayctl explain --xds ./xds --to 10.96.0.7:20880 --call org.example.Greeter.greet --attachment env=gray",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			answer, err := e.explain(c.Context(), &q)
			if err != nil {
				return err
			}
			return e.write(answer, func(t *table) { explainTable(t, answer) })
		},
	}
	flags := c.Flags()
	flags.StringArrayVar(&q.xds, "xds", nil, "xDS `file` or directory to read instead of asking the proxy")
	flags.StringVar(&q.from, "from", "", "the consumer's `pod`: NAMESPACE/NAME, NAME or UID")
	flags.StringVar(&q.principal, "principal", "", "with --xds the consumer's `SPIFFE` identity, for policies; none unless given")
	flags.StringVar(&q.to, "to", "", "what the consumer dials, as `ADDR:PORT` or HOST[:PORT]")
	flags.StringVar(&q.call, "call", "", "`IFACE.METHOD`; of a generic call the method that it names")
	flags.StringVar(&q.group, "group", "", "service group")
	flags.StringVar(&q.version, "version", "", "service version")
	flags.StringArrayVar(&q.attachments, "attachment", nil, "attachment of the call, as `KEY=VALUE`; may be repeated")
	flags.StringArrayVar(&q.args, "arg", nil, "argument of the call that has a text, as `INDEX=VALUE` with indices from 0; may be repeated")
	c.MarkFlagsMutuallyExclusive("xds", "from")
	c.MarkFlagsMutuallyExclusive("principal", "from")
	c.MarkFlagsOneRequired("xds", "from")
	c.RegisterFlagCompletionFunc("from", e.completeWorkloads) //nolint:errcheck // errs for an unknown flag alone
	return c
}

func (e *env) explain(ctx context.Context, q *question) (*admin.Explanation, error) {
	request, err := q.request()
	if err != nil {
		return nil, err
	}
	if len(q.xds) > 0 {
		answer, err := l7proxy.Explain(e.load(q.xds), request)
		return &answer, err
	}
	proxy := e.proxy()
	defer proxy.Close()
	var answer admin.Explanation
	if err := proxy.Post(ctx, admin.PathExplain, request, &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

// request reads the flags.
func (q *question) request() (request admin.ExplainRequest, err error) {
	if q.to == "" {
		return request, errors.New("--to is missing: say what the consumer dials, such as --to 10.96.0.7:20880 or --to provider")
	}
	if _, err := netip.ParseAddr(strings.Trim(q.to, "[]")); err == nil || strings.ContainsAny(q.to, "/ ") {
		return request, fmt.Errorf("--to %q is not an address and a port, such as 10.96.0.7:20880 or [fd00::7]:20880, nor a host", q.to)
	}
	request = admin.ExplainRequest{From: q.from, Principal: q.principal, To: q.to, Group: q.group, Version: q.version}
	if q.call != "" {
		dot := strings.LastIndexByte(q.call, '.')
		if dot <= 0 || dot == len(q.call)-1 {
			return request, fmt.Errorf("--call %q is not IFACE.METHOD, such as org.example.Greeter.greet", q.call)
		}
		request.Interface, request.Method = q.call[:dot], q.call[dot+1:]
		if request.Method == "$invoke" || request.Method == "$invokeAsync" {
			return request, fmt.Errorf("--call %q: a generic call is routed as the method that it names: say that one", q.call)
		}
	}
	if request.Attachments, err = q.attached(); err != nil {
		return request, err
	}
	request.Arguments, err = q.arguments()
	return request, err
}

func (q *question) attached() (map[string]string, error) {
	var all map[string]string
	for _, pair := range q.attachments {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--attachment %q is not KEY=VALUE", pair)
		}
		if all == nil {
			all = make(map[string]string)
		}
		all[key] = value
	}
	return all, nil
}

func (q *question) arguments() (map[int]string, error) {
	var all map[int]string
	for _, pair := range q.args {
		key, value, ok := strings.Cut(pair, "=")
		index, err := strconv.Atoi(key)
		if !ok || err != nil || index < 0 {
			return nil, fmt.Errorf("--arg %q is not INDEX=VALUE, such as 0=jason for the first argument", pair)
		}
		if all == nil {
			all = make(map[int]string)
		}
		all[index] = value
	}
	return all, nil
}

// outcomes says what an outcome means.
var outcomes = map[string]string{
	"route":       "routed by request",
	"tcp":         "passed on as bytes, not routed by request",
	"pass":        "not steered: it goes where it was dialled, past the proxy",
	"refuse":      "refused by the proxy with an error reply",
	"unreachable": "refused at connect time: it does not leave the pod",
}

func explainTable(t *table, a *admin.Explanation) {
	said := outcomes[a.Outcome]
	if said == "" {
		said = a.Outcome
	}
	if a.Reason != "" {
		said += ": " + a.Reason
	}
	t.linef("The call is %s", said)
	if a.Route != "" || a.Origin != "" {
		wayTable(t, admin.ExplainWay{Route: a.Route, Origin: a.Origin, Config: a.Config, Share: a.Share, Clusters: a.Clusters})
	} else {
		clusterRows(t, a.Clusters)
	}
	if len(a.Endpoints) > 0 {
		t.row("  endpoints", strings.Join(a.Endpoints, " "))
	}
	for _, way := range a.Otherwise {
		t.linef("Otherwise")
		wayTable(t, way)
	}
	if len(a.Steps) == 0 {
		return
	}
	t.gap()
	t.row("STEP", "VERDICT", "WHY")
	for _, s := range a.Steps {
		t.row(s.Object, s.Verdict, s.Why)
	}
}

// wayTable shows a route and where it leads.
func wayTable(t *table, way admin.ExplainWay) {
	route := way.Route
	if route == "" {
		route = "(unnamed)"
	}
	if way.Share < 100 {
		route += fmt.Sprintf(", taken by %.4g %% of such calls", way.Share)
	}
	t.row("  route", route)
	t.row("  defined in", strings.TrimSuffix(way.Origin+", of "+way.Config, ", of "))
	clusterRows(t, way.Clusters)
}

func clusterRows(t *table, clusters []admin.RouteTarget) {
	for i := range clusters {
		t.row("  cluster", target(&clusters[i], len(clusters) > 1))
	}
}
