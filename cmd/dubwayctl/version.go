package main

import (
	"runtime"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/version"
)

// release is the document of the version command.
type release struct {
	APIVersion string `json:"apiVersion"`
	Release    string `json:"release"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
}

func (e *env) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the release of dubwayctl",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			r := release{
				APIVersion: admin.APIVersion, Release: version.Version, Go: runtime.Version(),
				Platform: runtime.GOOS + "/" + runtime.GOARCH,
			}
			return e.write(r, func(t *table) { t.linef("dubwayctl %s (%s, %s)", r.Release, r.Go, r.Platform) })
		},
	}
}
