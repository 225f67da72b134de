// Package dump writes what the proxy holds of the mesh as Envoy's own config_dump
// (envoy.admin.v3.ConfigDump): for bug reports, and for the tools that read those of
// sidecars. One resource is in memory after the other, and secrets are taken out.
package dump

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"iter"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dubway/dubway/l7proxy/xds"
	"github.com/dubway/dubway/l7proxy/xds/dump/redact"
)

// View is what is dumped of one view of the mesh.
type View struct {
	Key      string                          // "" for what all workloads see
	Node     string                          // as whom the control plane is asked for it; "" for files
	Held     iter.Seq2[string, xds.Resource] // what holds, with its types; types together
	Rejected []xds.Rejection
	Secrets  []Secret
}

// Secret is a certificate that the proxy has for workloads of a view. Its key is not said.
type Secret struct {
	Name    string // whose it is: a SPIFFE ID
	Version string // until when it holds; "" if there is none
}

// Limit is how much of a dump is written at most, in bytes: past it what is left is named
// in one sentence.
const Limit = 512 << 20

// section is one part of Envoy's form: the list that resources of a type are in.
type section struct {
	typ, config, list, field string
	active                   bool // a resource is inside an active_state
}

// sections are in Envoy's order.
var sections = []section{
	{xds.TypeCluster, "ClustersConfigDump", "dynamic_active_clusters", "cluster", false},
	{xds.TypeEndpoint, "EndpointsConfigDump", "dynamic_endpoint_configs", "endpoint_config", false},
	{xds.TypeListener, "ListenersConfigDump", "dynamic_listeners", "listener", true},
	{xds.TypeRoute, "RoutesConfigDump", "dynamic_route_configs", "route_config", false},
}

// Write writes a view as one ConfigDump, at most limit bytes and a little. An error is the
// writer's.
func Write(w io.Writer, v *View, limit int64) error {
	out := &writer{Writer: bufio.NewWriterSize(w, 64<<10), left: limit}
	out.text(`{"configs":[`)
	out.config("BootstrapConfigDump", func() {
		out.text(`,"bootstrap":{"node":`)
		out.message(&corev3.Node{Id: v.Node, Cluster: v.Key, UserAgentName: "dubway"})
		out.text("}")
	})
	for i := range sections {
		s := &sections[i]
		out.config(s.config, func() { out.resources(s, v) })
	}
	out.config("SecretsConfigDump", func() { out.secrets(v.Secrets) })
	if out.left <= 0 {
		out.text(`,{"@type":"type.googleapis.com/google.protobuf.StringValue","value":`)
		out.text(fmt.Sprintf(`"ends here, after %d bytes: ask for the view of one pod"}`, limit))
	}
	out.text("]}\n")
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write dump: %w", err)
	}
	return nil
}

// writer writes JSON by hand around messages: a dump is larger than what should be in memory.
// What fails, Flush tells.
type writer struct {
	*bufio.Writer

	left  int64
	comma bool // something of the list was written
}

func (w *writer) text(s string) {
	w.left -= int64(len(s))
	_, _ = w.WriteString(s)
}

// config writes one config of a dump.
func (w *writer) config(kind string, body func()) {
	if w.comma {
		w.text(",\n")
	}
	w.text(`{"@type":"type.googleapis.com/envoy.admin.v3.` + kind + `"`)
	body()
	w.text("}")
	w.comma = true
}

// resources writes those of a section, and what is rejected of its kind.
func (w *writer) resources(s *section, v *View) {
	w.text(`,"` + s.list + `":[`)
	first := true
	next := func() {
		if !first {
			w.text(",\n")
		}
		first = false
	}
	for typ, r := range v.Held {
		if typ != s.typ || w.left <= 0 {
			continue
		}
		next()
		w.resource(s, &r)
	}
	for i := range v.Rejected {
		r := &v.Rejected[i]
		if kindOf(s.typ) != r.Kind || w.left <= 0 {
			continue
		}
		next()
		w.text("{")
		if s.active {
			w.quoted(`"name":`, r.Name)
			w.text(",")
		}
		w.quoted(`"error_state":{"details":`, redact.Text(fmt.Sprintf("%s: %s: %s", r.Name, r.Field, r.Reason)))
		w.text("}}")
	}
	w.text("]")
}

// resource writes one resource.
func (w *writer) resource(s *section, r *xds.Resource) {
	m, err := r.Body.UnmarshalNew()
	if err != nil {
		m = nil
	}
	if s.active {
		w.quoted(`{"name":`, r.Name)
		w.quoted(`,"active_state":{"version_info":`, r.Version)
	} else {
		w.quoted(`{"version_info":`, r.Version)
	}
	if m != nil {
		redact.Message(m)
		w.text(`,"` + s.field + `":`)
		w.typed(r.Body.GetTypeUrl(), m)
	}
	w.text("}")
	if s.active {
		w.text("}")
	}
}

// secrets writes which certificates there are, without their keys.
func (w *writer) secrets(all []Secret) {
	w.text(`,"dynamic_active_secrets":[`)
	for i, s := range all {
		if i > 0 {
			w.text(",\n")
		}
		w.quoted(`{"name":`, s.Name)
		w.quoted(`,"version_info":`, s.Version)
		w.quoted(`,"secret":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret","name":`, s.Name)
		w.text(`,"tls_certificate":{"private_key":{"inline_string":"` + redact.Mark + `"}}}}`)
	}
	w.text("]")
}

// quoted writes a text behind what comes before it.
func (w *writer) quoted(before, s string) {
	text, err := json.Marshal(s)
	if err != nil {
		text = []byte(`""`)
	}
	w.text(before + string(text))
}

var form = protojson.MarshalOptions{UseProtoNames: true}

// message writes a message; one that cannot be written is empty.
func (w *writer) message(m proto.Message) {
	text, err := form.Marshal(m)
	if err != nil {
		text = []byte("{}")
	}
	w.text(string(text))
}

// typed writes a message as an Any of it.
func (w *writer) typed(url string, m proto.Message) {
	text, err := form.Marshal(m)
	if err != nil || len(text) < 2 {
		text = []byte("{}")
	}
	w.quoted(`{"@type":`, url)
	if len(text) > 2 {
		w.text(",")
	}
	w.text(string(text[1:]))
}

func kindOf(typ string) string {
	for i := len(typ) - 1; i >= 0; i-- {
		if typ[i] == '.' {
			return typ[i+1:]
		}
	}
	return typ
}
