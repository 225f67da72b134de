// Package files reads xDS resources from YAML and JSON text: discovery
// responses in Envoy's own file form, single resources and lists of them, one
// or more documents to a file; and in protobuf's own form, as control planes send
// them. It tells where a text is not a resource; what a resource means is for package
// convert. It opens no file.
package files

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// Sum tells two texts, or two resources, apart.
type Sum [sha256.Size]byte

// Resource is one resource of a text.
type Resource struct {
	Type     string        // URL
	Kind     string        // Listener, Cluster, ClusterLoadAssignment, RouteConfiguration, or another type's name
	Name     string        // "" when it has none
	Sum      Sum           // of its canonical JSON: equal resources have equal sums
	Message  proto.Message // nil when there are problems
	Problems problems.List

	wire *anypb.Any // what Open reads
}

// Parse returns the resources of a text, in order. A problem inside a resource
// is that resource's own; an error means that the text as a whole cannot be
// read, and is a problems.Problem where a place in it is known.
func Parse(text []byte) ([]Resource, error) {
	var list []Resource
	found := false
	for i, doc := range documents(text) {
		tree, err := decode(doc)
		if err != nil {
			return nil, fmt.Errorf("parse document %d: %w", i+1, err)
		}
		if tree == nil {
			continue // an empty document between separators
		}
		found = true
		more, err := resources(tree)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	if !found {
		return nil, errors.New("the file is empty: delete it, or write `resources: []`, to remove its resources")
	}
	return list, nil
}

// documents splits YAML at its document separators. A JSON text is one.
func documents(text []byte) [][]byte {
	var docs [][]byte
	start := 0
	for at := 0; at < len(text); {
		end := len(text)
		if n := bytes.IndexByte(text[at:], '\n'); n >= 0 {
			end = at + n + 1
		}
		line := bytes.TrimRight(text[at:end], " \t\r\n")
		if bytes.Equal(line, []byte("---")) || bytes.HasPrefix(line, []byte("--- #")) {
			docs = append(docs, text[start:at])
			start = end
		}
		at = end
	}
	return append(docs, text[start:])
}

// decode turns a document into a JSON tree; nil when there is nothing in it.
func decode(doc []byte) (any, error) {
	text, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	return decodeJSON(text)
}

// decodeJSON keeps numbers as they are written.
func decodeJSON(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, fmt.Errorf("decode document: %w", err)
	}
	return tree, nil
}

// resources finds the resources of one document.
func resources(tree any) ([]Resource, error) {
	switch v := tree.(type) {
	case []any:
		return list("", v)
	case map[string]any:
		if _, ok := v["@type"]; ok {
			return []Resource{resource(v)}, nil
		}
		return response(v)
	}
	return nil, errors.New("neither a discovery response nor a resource")
}

func list(path string, entries []any) ([]Resource, error) {
	all := make([]Resource, 0, len(entries))
	for i, e := range entries {
		m, ok := e.(map[string]any)
		if _, typed := m["@type"].(string); !ok || !typed {
			return nil, problems.Problem{Field: fmt.Sprintf("%s[%d]", path, i), Reason: "not a resource: \"@type\" is required"}
		}
		all = append(all, resource(m))
	}
	return all, nil
}

// response reads a DiscoveryResponse.
func response(m map[string]any) ([]Resource, error) {
	entries, typ := []any(nil), ""
	for _, key := range sortedKeys(m) {
		v := m[key]
		switch key {
		case "resources":
			l, ok := v.([]any)
			if !ok && v != nil {
				return nil, problems.Problem{Field: key, Reason: "not a list"}
			}
			entries = l
		case "type_url", "typeUrl":
			typ, _ = v.(string)
		case "version_info", "versionInfo", "nonce":
		default:
			return nil, problems.Problem{Field: key, Reason: "not a field of a discovery response that is implemented"}
		}
	}
	if _, ok := m["resources"]; !ok {
		return nil, problems.Problem{Field: "resources", Reason: "required"}
	}
	all, err := list("resources", entries)
	if err != nil || typ == "" {
		return all, err
	}
	for i, r := range all {
		if r.Type != typ {
			all[i].Message = nil
			all[i].Problems.Addf("@type", "%s in a response whose type_url is %s", r.Type, typ)
		}
	}
	return all, nil
}
