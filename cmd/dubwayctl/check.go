package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/xds"
)

// checkReport is the document of the check command.
type checkReport struct {
	APIVersion string             `json:"apiVersion"`
	Valid      bool               `json:"valid"`
	Resources  admin.SnapshotSize `json:"resources"` // what would be applied
	Rejections []xds.Rejection    `json:"rejections"`
}

func (e *env) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check PATH...",
		Short: "Validate xDS files and directories, offline",
		Long: "Validate xDS files and directories, offline, as the proxy would when it loads them.\n" +
			"One line for each rejected resource: kind, name, field: reason. Fails if there is one.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("nothing to check: name files or directories, such as dubwayctl check ./xds")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, paths []string) error { return e.check(paths) },
	}
}

func (e *env) check(paths []string) error {
	loaded, rejected := xds.Load(paths)
	report := checkReport{
		APIVersion: admin.APIVersion, Valid: len(rejected) == 0, Rejections: append([]xds.Rejection{}, rejected...),
		Resources: admin.SnapshotSize{
			Listeners: len(loaded.Listeners) + len(loaded.Inbounds), Routes: len(loaded.Routes), Clusters: len(loaded.Clusters),
		},
	}
	for _, c := range loaded.Clusters {
		for _, l := range c.Localities {
			report.Resources.Endpoints += len(l.Endpoints)
		}
	}
	size := &report.Resources
	empty := report.Valid && *size == admin.SnapshotSize{}
	if empty {
		report.Valid = false
	}
	err := e.write(report, func(t *table) {
		for i := range rejected {
			t.linef("%s", rejectedLine(&rejected[i]))
		}
		if report.Valid {
			t.linef("valid: %d listeners, %d routes, %d clusters, %d endpoints", size.Listeners, size.Routes, size.Clusters, size.Endpoints)
		}
	})
	switch {
	case err != nil:
		return err
	case empty:
		// An empty answer to a mistyped path would let every mistake through.
		return fmt.Errorf("no xDS resource in %s: is it the right place?", strings.Join(paths, ", "))
	case len(rejected) > 0:
		return fmt.Errorf("%d rejected; a running proxy would keep the last good version of each", len(rejected))
	}
	return nil
}

// rejectedLine is one rejected resource on one line: kind, name, field: reason.
func rejectedLine(r *xds.Rejection) string {
	line := r.Kind + " " + r.Name
	if r.Field != "" {
		line += " " + r.Field
	}
	reasons := []string{r.Reason}
	for _, more := range r.More {
		reasons = append(reasons, more.Field+": "+more.Reason)
	}
	line += ": " + strings.Join(reasons, "; ")
	if r.File != "" && r.File != r.Name {
		line += " (" + r.File + ")"
	}
	return line
}
