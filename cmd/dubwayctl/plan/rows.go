package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dubway/dubway/cmd/dubwayctl/plan/policies"
)

// rows are the document for people: pods, ports, policies, conflicts, each a table, with the
// commands that mend things below them. A row without cells is a gap.
func (d *Document) rows() [][]any {
	var rows [][]any
	table := func(heading []any, body [][]any) {
		if len(body) == 0 {
			return
		}
		if len(rows) > 0 {
			rows = append(rows, nil)
		}
		rows = append(append(rows, heading), body...)
	}
	table([]any{"POD", "STATE", "PORTS", "WHY"}, d.podRows())
	table([]any{"SERVICE", "PORT", "DECLARED", "WHAT HAPPENS"}, d.serviceRows())
	table([]any{"POLICY", "FIELD", "EFFECT", "WHAT HAPPENS"}, d.policyRows())
	var conflicts [][]any
	for _, c := range d.Conflicts {
		conflicts = append(conflicts, []any{c.Subject, mark(c.Says, c.Blocks)})
	}
	table([]any{"CONFLICT", "WHAT HAPPENS"}, conflicts)
	var fixes [][]any
	for _, fix := range d.fixes() {
		fixes = append(fixes, []any{"  " + fix})
	}
	table([]any{"What mends it:"}, fixes)
	s := &d.Summary
	return append(rows, nil, []any{fmt.Sprintf(
		"namespace %s: %d pod(s) would be steered, %d cannot be, %d stay outside; %d finding(s) block",
		d.Namespace, s.Steered, s.Excluded, s.Outside, s.Blocks)})
}

func (d *Document) podRows() [][]any {
	var rows [][]any
	for _, p := range d.Pods {
		var numbers []string
		for _, n := range p.Ports {
			numbers = append(numbers, strconv.Itoa(n))
		}
		rows = append(rows, []any{p.Name, p.State, strings.Join(numbers, ","), cmp.Or(p.Reason, p.By)})
	}
	return rows
}

func (d *Document) serviceRows() [][]any {
	var rows [][]any
	for _, s := range d.Services {
		port := strconv.Itoa(s.Port)
		if s.Named != "" {
			port += " " + s.Named
		}
		rows = append(rows, []any{s.Name, port, s.Class, mark(s.Says, s.Blocks)})
	}
	return rows
}

// policyRows has a line for each object of which everything is honoured, and else one for
// each field of which something is to be said.
func (d *Document) policyRows() [][]any {
	var rows [][]any
	for _, v := range d.Policies {
		name := v.Kind + " " + v.Namespace + "/" + v.Name
		said := slices.DeleteFunc(slices.Clone(v.Findings), func(f policies.Finding) bool {
			return f.Effect == policies.Honoured && f.Field != ""
		})
		if len(said) == 0 {
			rows = append(rows, []any{name, "", policies.Honoured, "all of it"})
		}
		for _, f := range said {
			rows = append(rows, []any{name, strings.TrimPrefix(f.Field, "spec."), f.Effect, mark(f.Says, f.Blocks)})
		}
	}
	return rows
}

// fixes are the commands that mend things, each once, in the order of the tables.
func (d *Document) fixes() []string {
	var all []string
	add := func(fix string) {
		if fix != "" && !slices.Contains(all, fix) {
			all = append(all, fix)
		}
	}
	for _, s := range d.Services {
		add(s.Fix)
	}
	for _, v := range d.Policies {
		for _, f := range v.Findings {
			add(f.Fix)
		}
	}
	for _, c := range d.Conflicts {
		add(c.Fix)
	}
	return all
}

// mark says first what blocks.
func mark(says string, blocks bool) string {
	if blocks {
		return "BLOCKS: " + says
	}
	return says
}
