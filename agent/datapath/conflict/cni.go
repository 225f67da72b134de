package conflict

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dubway/dubway/agent/datapath/host"
)

// configurations looks at the node's CNI folder: for a plugin that takes it for its own,
// and for another mesh's plugin.
func (n Node) configurations() []host.Check {
	const exclusive, mesh = "CNI folder", "Istio's CNI plugin"
	if n.ConfDir == "" {
		return nil
	}
	entries, err := os.ReadDir(n.ConfDir)
	if err != nil {
		return []host.Check{unknown(exclusive, err,
			"mount the host's CNI folder into the agent's container, and name it by --cni-conf-dir")}
	}
	var moved, files, chained []string
	for _, e := range entries {
		name := e.Name()
		switch filepath.Ext(name) {
		case ".cilium_bak":
			moved = append(moved, name)
		case ".conf", ".conflist", ".json":
			files = append(files, name)
			if slices.Contains(plugins(filepath.Join(n.ConfDir, name)), "istio-cni") {
				chained = append(chained, name)
			}
		}
	}
	found := "no configuration in " + n.ConfDir
	if len(files) > 0 {
		found = "the runtime uses " + files[0]
	}
	checks := []host.Check{fine(exclusive, found), fine(mesh, "not in "+n.ConfDir)}
	if len(moved) > 0 {
		checks[0] = host.Check{
			Name: exclusive, Detail: "Cilium has put others' configurations aside: " + strings.Join(moved, ", "),
			Fix: "set Cilium's cni.exclusive=false (cilium-config: cni-exclusive), or it may take dubway-cni out of the chain",
		}
	}
	if len(chained) > 0 {
		// Whom it takes is not enrolled, each with that reason; so this is no fault.
		checks[1] = fine(mesh, fmt.Sprintf("in %s: pods with istio.io/dataplane-mode=ambient and pods with a sidecar stay Istio's "+
			"(15001, 15006 and 15008 are taken there)", strings.Join(chained, ", ")))
	}
	return checks
}

// plugins returns the types of the plugins in a configuration; none of a file that is none.
func plugins(file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var list struct {
		Type    string `json:"type"`
		Plugins []struct {
			Type string `json:"type"`
		} `json:"plugins"`
	}
	if json.Unmarshal(text, &list) != nil {
		return nil
	}
	all := []string{list.Type}
	for _, p := range list.Plugins {
		all = append(all, p.Type)
	}
	return all
}
