// Command dashboards writes the Grafana dashboards of Dubway: what is asked of Prometheus is
// here, and Grafana's JSON of it in deploy/chart/dashboards/, for the chart and for whoever
// imports them by hand. They are made of the metrics of docs/metrics.md and of labels that
// every Prometheus has, instance alone.
package main

//go:generate go run . ../chart/dashboards

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

// all are the dashboards, by the names of their files.
func all() map[string]board {
	return map[string]board{"dubway-services": services(), "dubway-nodes": nodes(), "dubway-policies": policies()}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("say the folder to write them to")
	}
	for name, b := range all() {
		text, err := b.write(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(args[0], name+".json"), text, 0o644); err != nil {
			return fmt.Errorf("write dashboard: %w", err)
		}
	}
	return nil
}

// board is a dashboard.
type board struct {
	title, description string
	variables          []variable
	rows               []row
}

// row is a line of panels below a title.
type row struct {
	title  string
	panels []panel
}

// panel is a graph over time.
type panel struct {
	title, description string
	unit               string // Grafana's word
	stack              bool
	queries            []query
}

// query is one expression, and what its lines are called.
type query struct{ expr, legend string }

// variable is what whoever looks may choose: values of a label, or fixed ones.
type variable struct {
	name, label string
	query       string // of label values
	fixed       string // separated by commas
}

// graph makes a panel of one query.
func graph(title, unit string, q query, description string) panel {
	return panel{title: title, unit: unit, queries: []query{q}, description: description}
}

// stacked is a panel whose lines add up.
func stacked(p panel) panel {
	p.stack = true
	return p
}

// fields is a JSON object.
type fields = map[string]any

// source is the Prometheus that was chosen.
var source = fields{"type": "prometheus", "uid": "${datasource}"}

// Grafana's grid is 24 columns wide; a row has at most three panels.
const (
	columns = 24
	height  = 8
)

// write makes Grafana's JSON.
func (b *board) write(uid string) ([]byte, error) {
	panels := []any{}
	id, y := 0, 0
	place := func(p fields, x, w, h int) {
		id++
		p["id"], p["gridPos"] = id, fields{"x": x, "y": y, "w": w, "h": h}
		panels = append(panels, p)
	}
	for _, r := range b.rows {
		place(fields{"type": "row", "title": r.title, "collapsed": false, "panels": []any{}}, 0, columns, 1)
		y++
		for i, p := range r.panels {
			perLine := min(3, len(r.panels))
			place(p.json(), i%perLine*columns/perLine, columns/perLine, height)
			if i%perLine == perLine-1 || i == len(r.panels)-1 {
				y += height
			}
		}
	}
	variables := []any{fields{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}}
	for _, v := range b.variables {
		variables = append(variables, v.json())
	}
	document := fields{
		"uid": uid, "title": b.title, "description": b.description, "tags": []string{"dubway"},
		"schemaVersion": 39, "version": 1, "editable": true, "graphTooltip": 1, "refresh": "30s",
		"time": fields{"from": "now-1h", "to": "now"}, "timezone": "browser",
		"templating": fields{"list": variables}, "panels": panels,
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(document); err != nil {
		return nil, fmt.Errorf("write dashboard: %w", err)
	}
	return text.Bytes(), nil
}

func (p *panel) json() fields {
	targets := []any{}
	for i, q := range p.queries {
		targets = append(targets, fields{
			"refId": string(rune('A' + i)), "datasource": source, "expr": q.expr, "legendFormat": q.legend, "range": true,
		})
	}
	look := fields{"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": false}
	if p.stack {
		look["stacking"], look["fillOpacity"] = fields{"mode": "normal"}, 50
	}
	return fields{
		"type": "timeseries", "title": p.title, "description": p.description, "datasource": source, "targets": targets,
		"fieldConfig": fields{"defaults": fields{"unit": p.unit, "min": 0, "custom": look}, "overrides": []any{}},
		"options": fields{
			"legend":  fields{"displayMode": "table", "placement": "bottom", "calcs": []string{"mean", "max"}},
			"tooltip": fields{"mode": "multi", "sort": "desc"},
		},
	}
}

func (v *variable) json() fields {
	if v.fixed != "" {
		return fields{"name": v.name, "label": v.label, "type": "custom", "query": v.fixed}
	}
	return fields{
		"name": v.name, "label": v.label, "type": "query", "datasource": source, "refresh": 2, "sort": 1,
		"query":      fields{"query": v.query, "refId": "A"},
		"includeAll": true, "multi": true, "allValue": ".*", "current": fields{"text": "All", "value": "$__all"},
	}
}
