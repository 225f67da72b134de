// Package manifest holds objects of the Kubernetes API as documents: whatever their kind,
// they come from kubectl or from files, and say what they are. The few kinds that are
// looked into have types of their own here, with the fields that matter; there is no client.
package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Object is one object of the API.
type Object struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   Metadata       `json:"metadata"`
	Body       map[string]any `json:"-"` // the whole object; nobody changes it
}

// Metadata names an object.
type Metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Owners      []Owner           `json:"ownerReferences"`
}

// Owner is who made an object.
type Owner struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Controller bool   `json:"controller"`
}

// Group is the API group; "" is Kubernetes' own.
func (o *Object) Group() string {
	group, _, grouped := strings.Cut(o.APIVersion, "/")
	if !grouped {
		return ""
	}
	return group
}

// Type is the kind with its group, as "VirtualService.networking.istio.io": kinds of two
// groups share names.
func (o *Object) Type() string {
	if g := o.Group(); g != "" {
		return o.Kind + "." + g
	}
	return o.Kind
}

// String names the object for people: "VirtualService shop/orders".
func (o *Object) String() string {
	if o.Metadata.Namespace == "" {
		return o.Kind + " " + o.Metadata.Name
	}
	return o.Kind + " " + o.Metadata.Namespace + "/" + o.Metadata.Name
}

// Into decodes the object into one of the types of this package.
func (o *Object) Into(into any) error {
	text, err := json.Marshal(o.Body)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", o, err)
	}
	return nil
}

// Parse reads documents of YAML or JSON; lists are taken apart. What is empty, or is no
// object, is an error.
func Parse(text []byte) ([]Object, error) {
	if trimmed := strings.TrimSpace(string(text)); strings.HasPrefix(trimmed, "{") && json.Valid([]byte(trimmed)) {
		return one([]byte(trimmed))
	}
	var all []Object
	for document := range strings.SplitSeq("\n"+string(text), "\n---") {
		// What follows the dashes on their line is a comment, at most.
		if at := strings.IndexByte(document, '\n'); at >= 0 {
			document = document[at:]
		}
		content, err := yaml.YAMLToJSON([]byte(document))
		if err != nil {
			return nil, fmt.Errorf("read YAML: %w", err)
		}
		if string(content) == "null" {
			continue
		}
		some, err := one(content)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// one reads one object of JSON, or the objects of a list.
func one(content []byte) ([]Object, error) {
	var o Object
	if err := errors.Join(json.Unmarshal(content, &o), json.Unmarshal(content, &o.Body)); err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	if o.Kind == "" || o.APIVersion == "" {
		return nil, errors.New("no apiVersion and kind: not an object of the Kubernetes API")
	}
	if !strings.HasSuffix(o.Kind, "List") {
		return []Object{o}, nil
	}
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(content, &list); err != nil {
		return nil, fmt.Errorf("read %s: %w", o.Kind, err)
	}
	var all []Object
	for _, item := range list.Items {
		some, err := one(item)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// Load reads files, and the *.yaml, *.yml and *.json of directories, in the order of their
// names.
func Load(paths []string) ([]Object, error) {
	var all []Object
	for _, path := range paths {
		files := []string{path}
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		if info.IsDir() {
			if files, err = within(path); err != nil {
				return nil, err
			}
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("read manifests: %w", err)
			}
			some, err := Parse(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			all = append(all, some...)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no object in %s: is it the right place?", strings.Join(paths, ", "))
	}
	return all, nil
}

// within lists the manifests of a directory and of those in it.
func within(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	return files, nil
}
