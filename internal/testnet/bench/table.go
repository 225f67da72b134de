package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
)

// table prints rows as they come and keeps them.
type table struct {
	rows []row
	w    *tabwriter.Writer
}

func newTable() *table {
	t := &table{w: tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)}
	fmt.Fprintln(t.w, "path\tbytes\tconns\tdepth\tratio\tmin\tmax\tto proxy\tCPU us\tCPU ratio\tp50 ratio\tp99 ratio\tp50 us\tp99 us\tp999 us\tRSS MiB\tCPU %\tin lane\thops us\t")
	return t
}

func (t *table) add(rows []row) {
	for _, x := range rows {
		fmt.Fprintf(t.w, "%s\t%d\t%d\t%d\t%.2f\t%.2f\t%.2f\t%s\t%.1f\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%.0f\t%.0f\t%.1f\t%s\n",
			x.Path, x.Bytes, x.Conns, x.Depth, x.Ratio, x.Min, x.Max, toProxy(x), x.CPUMicros, x.CPURatio, x.P50Ratio, x.P99Ratio,
			x.P50Micros, x.P99Micros, x.P999Micros, x.RSSMiB, x.CPUPercent, inLane(x))
	}
	_ = t.w.Flush()
	t.rows = append(t.rows, rows...)
}

func toProxy(x row) string {
	if x.ProxyRatio == 0 {
		return ""
	}
	return fmt.Sprintf("%.3f", x.ProxyRatio)
}

func write(path string, rows []row) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	b, err := json.MarshalIndent(struct {
		Rows []row `json:"rows"`
	}{rows}, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append(b, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

func inLane(x row) string {
	if x.LaneShare == 0 {
		return "\t\t"
	}
	return fmt.Sprintf("%.4f\t%.2f\t", x.LaneShare, x.HopMicros)
}
