package pods

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// APIVersion and Kind of a workload file.
const (
	APIVersion = "dubway.io/v1alpha1"
	Kind       = "Workload"
)

// document is the form of a workload file.
type document struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		UID         string            `json:"uid"`
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		ServiceAccount string   `json:"serviceAccount"`
		Netns          string   `json:"netns"`
		Cgroup         string   `json:"cgroup"`
		Addresses      []string `json:"addresses"`
		Ports          []uint16 `json:"ports"`
	} `json:"spec"`
}

// Parse reads one workload file: YAML or JSON, one document, no unknown or
// repeated field. The uid is namespace/name unless given.
func Parse(text []byte) (*Pod, error) {
	if err := oneDocument(text); err != nil {
		return nil, err
	}
	// Strict: a repeated key is an error; the decoder adds unknown ones.
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, fmt.Errorf("parse yaml: %w", err)
	}
	var d document
	decoder := json.NewDecoder(bytes.NewReader(asJSON))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return nil, fmt.Errorf("parse workload: %w", err)
	}
	return d.pod()
}

// oneDocument refuses what the parser would silently leave out: all documents
// but the first.
func oneDocument(text []byte) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return fmt.Errorf("parse workload: %w", io.ErrUnexpectedEOF)
	}
	seen := false
	for line := range bytes.Lines(text) {
		switch line = bytes.TrimRight(line, " \t\r\n"); {
		case len(line) == 0 || line[0] == '#':
		case bytes.Equal(line, []byte("---")) && seen:
			return errors.New("parse workload: more than one document in a file")
		case bytes.Equal(line, []byte("---")):
		default:
			seen = true
		}
	}
	return nil
}

func (d *document) pod() (*Pod, error) {
	if d.APIVersion != APIVersion || d.Kind != Kind {
		return nil, fmt.Errorf("parse workload: apiVersion and kind are %q and %q, not %q and %q",
			d.APIVersion, d.Kind, APIVersion, Kind)
	}
	p := &Pod{
		UID: d.Metadata.UID, Name: d.Metadata.Name, Namespace: d.Metadata.Namespace, Labels: d.Metadata.Labels,
		ServiceAccount: d.Spec.ServiceAccount, Netns: d.Spec.Netns, Cgroup: d.Spec.Cgroup, Ports: d.Spec.Ports,
	}
	if p.UID == "" {
		p.UID = p.Namespace + "/" + p.Name
	}
	for _, f := range []struct{ name, value string }{
		{"metadata.name", p.Name}, {"metadata.namespace", p.Namespace},
	} {
		if f.value == "" || len(f.value) > 253 || strings.ContainsFunc(f.value, notName) {
			return nil, fmt.Errorf("parse workload: %s: %q is not a name", f.name, f.value)
		}
	}
	if len(p.UID) > 507 || strings.ContainsFunc(p.UID, notName) {
		return nil, fmt.Errorf("parse workload: metadata.uid: %q is not a uid", p.UID)
	}
	for _, f := range []struct{ name, path string }{{"spec.netns", p.Netns}, {"spec.cgroup", p.Cgroup}} {
		if !filepath.IsAbs(f.path) {
			return nil, fmt.Errorf("parse workload: %s: %q is not an absolute path", f.name, f.path)
		}
	}
	if slices.Contains(p.Ports, 0) {
		return nil, errors.New("parse workload: spec.ports: 0 is not a port")
	}
	var err error
	if p.Annotations, err = Annotations(d.Metadata.Annotations); err != nil {
		return nil, err
	}
	p.Addresses, err = addresses(d.Spec.Addresses)
	return p, err
}

// maxAnnotation bounds the value of an annotation that goes to the proxy, in bytes.
const maxAnnotation = 1 << 10

// Annotations returns the mesh's own of all annotations. Others are not looked at: a
// tool's may be large, and their change is none of the pod for us.
func Annotations(all map[string]string) (map[string]string, error) {
	var own map[string]string
	for name, value := range all {
		if !strings.HasPrefix(name, Prefix) {
			continue
		}
		if len(name)+len(value) > maxAnnotation || strings.ContainsFunc(name+value, notText) {
			return nil, fmt.Errorf("parse workload: metadata.annotations: %.64q is not a short text", name)
		}
		if own == nil {
			own = make(map[string]string)
		}
		own[name] = value
	}
	return own, nil
}

// addresses reads the addresses of a pod: one or more, each one that a peer can
// reach.
func addresses(texts []string) ([]netip.Addr, error) {
	if n := len(texts); n == 0 || n > 16 {
		return nil, fmt.Errorf("parse workload: spec.addresses: %d addresses, not 1 to 16", n)
	}
	result := make([]netip.Addr, 0, len(texts))
	for i, text := range texts {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("parse workload: spec.addresses[%d]: %w", i, err)
		}
		a = a.Unmap()
		if a.Zone() != "" || !a.IsGlobalUnicast() {
			return nil, fmt.Errorf("parse workload: spec.addresses[%d]: %s is not a pod's address", i, text)
		}
		if slices.Contains(result, a) {
			return nil, fmt.Errorf("parse workload: spec.addresses[%d]: %s is there twice", i, text)
		}
		result = append(result, a)
	}
	return result, nil
}

func notText(r rune) bool { return r < ' ' || r == 0x7f }

func notName(r rune) bool { return r <= ' ' || r == 0x7f }
