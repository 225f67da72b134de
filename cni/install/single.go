package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// aside is added to the name of a file whose place a conflist took. No runtime reads it.
const aside = ".dubway"

// isSingle tells whether a file's name is of a configuration of one plugin.
func isSingle(name string) bool { return filepath.Ext(name) != ".conflist" }

// listName is the name of the conflist that takes the place of a single plugin's file.
func listName(name string) string { return strings.TrimSuffix(name, filepath.Ext(name)) + ".conflist" }

// toList makes a conflist of the configuration of one plugin, as libcni does in memory.
// The plugin's own fields keep their order and digits.
func toList(text []byte) ([]byte, error) {
	var head struct {
		Name       string          `json:"name"`
		CNIVersion string          `json:"cniVersion"`
		Type       string          `json:"type"`
		Plugins    json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	switch {
	case head.Plugins != nil:
		return nil, errors.New("it is a list of plugins, whose name must end in .conflist")
	case head.Type == "":
		return nil, errors.New("it has no type")
	case head.Name == "":
		return nil, errors.New("it has no name")
	}
	name, err := json.Marshal(head.Name)
	if err != nil {
		return nil, fmt.Errorf("write name: %w", err)
	}
	version, err := json.Marshal(head.CNIVersion)
	if err != nil {
		return nil, fmt.Errorf("write version: %w", err)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "{\n  \"cniVersion\": %s,\n  \"name\": %s,\n  \"plugins\": [\n    ", version, name)
	if err := json.Indent(&out, bytes.TrimSpace(text), "    ", "  "); err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	out.WriteString("\n  ]\n}\n")
	return out.Bytes(), nil
}
