package demo

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/dubway/dubway/internal/testnet"
)

// files are the xDS files that the proxy starts with (xds), and the later
// contents of routes.yaml (steps).
//
//go:embed xds steps
var files embed.FS

// routesFile is the one file that the demo edits.
const routesFile = "routes.yaml"

// putXDS gives the node its first configuration.
func putXDS(node *testnet.Node) error {
	entries, err := fs.ReadDir(files, "xds")
	if err != nil {
		return fmt.Errorf("read xds files: %w", err)
	}
	for _, entry := range entries {
		content, err := files.ReadFile(path.Join("xds", entry.Name()))
		if err != nil {
			return fmt.Errorf("read xds files: %w", err)
		}
		if err := node.PutXDS(entry.Name(), content); err != nil {
			return err
		}
	}
	return nil
}

// changes tells in diff's way how b's lines differ from a's. The files differ in
// one place: what is equal before it and after it is left out.
func changes(a, b string) []string {
	old, now := strings.Split(a, "\n"), strings.Split(b, "\n")
	for len(old) > 0 && len(now) > 0 && old[0] == now[0] {
		old, now = old[1:], now[1:]
	}
	for len(old) > 0 && len(now) > 0 && old[len(old)-1] == now[len(now)-1] {
		old, now = old[:len(old)-1], now[:len(now)-1]
	}
	lines := make([]string, 0, len(old)+len(now))
	for _, line := range old {
		lines = append(lines, "- "+line)
	}
	for _, line := range now {
		lines = append(lines, "+ "+line)
	}
	return lines
}
