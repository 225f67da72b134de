package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/dubway/dubway/agent/datapath/host"
)

// The table of a document is between these lines; the rest is written by people.
const (
	tableBegin = "<!-- make kernel-matrix-all writes this table -->\n"
	tableEnd   = "<!-- end of the table -->\n"
)

// finding is what one kernel's column says.
type finding struct {
	line   *line
	report *report
}

// header is the table's first row.
func header(found []finding) string {
	cells := []string{"dubwayctl doctor"}
	for _, f := range found {
		cells = append(cells, "Linux "+f.report.version)
	}
	return row(cells) + "|" + strings.Repeat("---|", len(cells)) + "\n"
}

// table says in Markdown what the kernels have, by the names of the agent's own probes, and
// which tests had nothing to test. Found may not be empty.
func table(found []finding) string {
	var b strings.Builder
	b.WriteString(header(found))
	for _, name := range features() {
		cells := []string{name}
		for _, f := range found {
			cells = append(cells, f.feature(name))
		}
		b.WriteString(row(cells))
	}
	cells := []string{"tests of the data path"}
	for _, f := range found {
		cells = append(cells, f.tests())
	}
	b.WriteString(row(cells))
	return b.String()
}

// features are the names of the rows: what a kernel has or has not, wherever it runs.
func features() []string {
	var names []string
	for _, c := range host.Features() {
		names = append(names, c.Name)
	}
	return names
}

func (f finding) feature(name string) string {
	for _, c := range f.report.checks {
		switch {
		case c.Name != name:
		case !c.OK:
			return "no"
		case c.Choice != "":
			return c.Choice
		default:
			return "yes"
		}
	}
	return "not asked"
}

func (f finding) tests() string {
	without := slices.Sorted(maps.Values(f.line.missing))
	without = slices.Sorted(slices.Values(slices.AppendSeq(without, maps.Values(f.line.without))))
	if len(without) == 0 {
		return "pass"
	}
	return "pass, without " + strings.Join(slices.Compact(without), ", ")
}

func row(cells []string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

// writeTable replaces the table of a document.
func writeTable(path, table string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	before, _, after, err := splitTable(string(text))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := os.WriteFile(path, []byte(before+table+after), 0o644); err != nil {
		return fmt.Errorf("write document: %w", err)
	}
	return nil
}

// splitTable cuts a document at its table's lines, which stay with the rest.
func splitTable(text string) (before, table, after string, err error) {
	before, rest, begun := strings.Cut(text, tableBegin)
	table, after, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		return "", "", "", fmt.Errorf("it has no lines %q and %q", strings.TrimSpace(tableBegin), strings.TrimSpace(tableEnd))
	}
	return before + tableBegin, table, tableEnd + after, nil
}
