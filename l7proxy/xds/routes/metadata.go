package routes

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/policies"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// lbMetadata is the key that load balancing compares.
const lbMetadata = "envoy.lb"

// Subset returns filter_metadata["envoy.lb"], nil when it is empty.
func Subset(m *corev3.Metadata) snapshot.Metadata {
	return Flat(m.GetFilterMetadata()[lbMetadata])
}

// ourMetadata is the key of what Envoy has no field for.
const ourMetadata = "dubway.io"

// aborts reads what a route's metadata say an abort is.
func aborts(p *problems.List, path string, m *corev3.Metadata) (out *snapshot.Abort) {
	path += `.metadata.filter_metadata["` + ourMetadata + `"]`
	ours := m.GetFilterMetadata()[ourMetadata].GetFields()
	for _, key := range slices.Sorted(maps.Keys(ours)) {
		if key != "fault" {
			p.Addf(path+"."+key, "not implemented")
			continue
		}
		out = policies.Abort(p, path+".fault", ours[key])
	}
	return out
}

// config names the object that istiod made a route of, by its metadata: the path of a
// VirtualService or of another one in Kubernetes' API.
func config(m *corev3.Metadata) string {
	path := m.GetFilterMetadata()["istio"].GetFields()["config"].GetStringValue()
	parts := strings.Split(path, "/") // "", apis, group, version, namespaces, NS, KIND, NAME
	if len(parts) != 8 || parts[4] != "namespaces" {
		return path
	}
	return parts[6] + " " + parts[5] + "/" + parts[7]
}

// direct converts a direct response: an answer in the provider's stead, as an abort is.
// Own is what the route's metadata say an abort is; nil: nothing.
func direct(p *problems.List, path string, d *routev3.DirectResponseAction, own *snapshot.RoutePolicies) *snapshot.Abort {
	if own != nil && own.Abort != nil {
		return own.Abort
	}
	body := d.GetBody().GetInlineString()
	if text := d.GetBody().GetInlineBytes(); len(text) > 0 {
		body = string(text)
	}
	return policies.Status(p, path+".status", d.GetStatus(), body)
}

// Flat renders each value as canonical JSON, so that 1 and "1" differ as they
// do for Envoy.
func Flat(s *structpb.Struct) snapshot.Metadata {
	if len(s.GetFields()) == 0 {
		return nil
	}
	m := make(snapshot.Metadata, len(s.GetFields()))
	for k, v := range s.GetFields() {
		var text bytes.Buffer
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false)
		if err := e.Encode(v.AsInterface()); err != nil {
			continue // numbers that JSON cannot say, which no file can hold
		}
		m[k] = string(bytes.TrimSuffix(text.Bytes(), []byte("\n")))
	}
	return m
}

// Joined is base with over's keys on top.
func Joined(base, over snapshot.Metadata) snapshot.Metadata {
	if len(over) == 0 {
		return base
	}
	if len(base) == 0 {
		return over
	}
	m := maps.Clone(base)
	maps.Copy(m, over)
	return m
}
