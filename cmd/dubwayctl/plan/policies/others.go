package policies

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dubway/dubway/cmd/dubwayctl/manifest"
	"github.com/dubway/dubway/l7proxy/xds/fields"
	"github.com/dubway/dubway/l7proxy/xds/fields/entry"
)

var telemetry = []field{
	{path: "spec.selector", effect: Honoured},
	{path: "spec.targetRefs", effect: Honoured},
	{path: "spec.tracing.match", effect: Honoured},
	{path: "spec.tracing.providers", effect: Honoured, says: "an opentelemetry provider of gRPC makes spans; any other makes none, and dubwayctl status says so"},
	{path: "spec.tracing.randomSamplingPercentage", effect: Honoured},
	{path: "spec.tracing.disableSpanReporting", effect: Honoured},
	{path: "spec.tracing.customTags.*.literal", effect: Honoured},
	{path: "spec.tracing.customTags.*.header", effect: Honoured},
	{path: "spec.tracing.customTags.*.environment", effect: Partly, says: "its defaultValue is taken: the node's proxy has not the pod's environment"},
	{path: "spec.tracing.customTags.*.formatter", effect: Unknown, says: "try it, and read dubwayctl status"},
	{path: "spec.tracing.useRequestIdForTraceSampling", effect: Ignored, says: "a Dubbo request has no x-request-id"},
	{path: "spec.tracing.enableIstioTags", effect: Honoured},
	{path: "spec.tracing.disableContextPropagation", effect: Honoured},
	{path: "spec.metrics.providers", effect: Honoured, says: "prometheus; docs/metrics.md has what is measured"},
	{path: "spec.metrics.reportingInterval", effect: Ignored, says: "bytes are counted at a connection's end"},
	{path: "spec.metrics.overrides.match", effect: Honoured},
	{path: "spec.metrics.overrides.disabled", effect: Honoured},
	{path: "spec.metrics.overrides.tagOverrides.*.operation", effect: Honoured},
	{path: "spec.metrics.overrides.tagOverrides.*.value", effect: Honoured, says: "a text in quotes, request.headers['NAME'], request.path, request.url_path or request.host; any other expression is refused"},
	{path: "spec.accessLogging.match", effect: Honoured},
	{path: "spec.accessLogging.providers", effect: Honoured, says: "a file's, or stdout's: lines have the proxy's own format. Nothing is sent to gRPC or OpenTelemetry"},
	{path: "spec.accessLogging.disabled", effect: Honoured},
	{path: "spec.accessLogging.filter.expression", effect: Honoured, says: "docs/xds.md, \"Telemetry\", has the forms of CEL that are read; others are refused"},
}

var metaRouter = []field{
	{path: "spec.hosts", effect: Honoured},
	{path: "spec.gateways", effect: Ignored, says: "means something to gateways only"},
	{path: "spec.exportTo", effect: Honoured},
	{path: "spec.routes.name", effect: Honoured},
	{path: "spec.routes.match.attributes", effect: Honoured},
	{path: "spec.routes.route", effect: Honoured},
	{path: "spec.routes.mirror", effect: Honoured},
	{path: "spec.routes.mirrorPercentage", effect: Honoured},
	{path: "spec.routes.requestMutation", effect: Honoured},
	{path: "spec.routes.responseMutation", effect: Honoured},
	{path: "spec.localRateLimit", effect: Honoured},
	{path: "spec.globalRateLimit", effect: Honoured},
}

// aeraki says whom tables of MetaRouters are asked of.
func aeraki(_ *World, _ *manifest.Object, v *Verdict) bool {
	v.add(Finding{Effect: Honoured, Says: "as Aeraki makes it: its controller stays, and the proxies must reach its port 15010 (dubway-proxy --aeraki-server)"})
	return true
}

// applicationProtocol names a codec of Aeraki's proxy.
func (w *World) applicationProtocol(o *manifest.Object, v *Verdict) bool {
	name := text(object(o.Body["spec"])["protocol"])
	if name == "dubbo" || name == "thrift" {
		return false
	}
	f := Finding{Field: "spec.protocol", Effect: Rejected, Says: "application_protocol: only dubbo and thrift." + listenerRefused}
	for _, e := range w.Entries {
		for _, p := range e.Spec.Ports {
			// tcp-metaprotocol-NAME is how a port asks for it.
			if rest, asks := strings.CutPrefix(p.Name, "tcp-metaprotocol-"); asks && (rest == name || strings.HasPrefix(rest, name+"-")) {
				f.Blocks = true
			}
		}
	}
	if !f.Blocks {
		f.Effect, f.Says = Ignored, "no port asks for it"
	}
	v.add(f)
	return false
}

// slots are where the filters of a patch go, by its applyTo.
var slots = map[string]entry.Slot{
	"NETWORK_FILTER": entry.SlotNetworkFilter, "HTTP_FILTER": entry.SlotHTTPFilter, "LISTENER_FILTER": entry.SlotListenerFilter,
}

// messages are what the fields of a patch are of, by its applyTo.
var messages = map[string]string{
	"CLUSTER": "envoy.config.cluster.v3.Cluster", "LISTENER": "envoy.config.listener.v3.Listener",
	"FILTER_CHAIN": "envoy.config.listener.v3.FilterChain", "ROUTE_CONFIGURATION": "envoy.config.route.v3.RouteConfiguration",
	"VIRTUAL_HOST": "envoy.config.route.v3.VirtualHost", "HTTP_ROUTE": "envoy.config.route.v3.Route",
}

// envoyFilter looks at each patch: istiod applies it, and what comes out is held against the
// tables of docs/xds.md.
func (w *World) envoyFilter(o *manifest.Object, v *Verdict) bool {
	spec := object(o.Body["spec"])
	if len(object(spec["workloadSelector"])) > 0 && len(w.selected(o)) == 0 {
		v.add(Finding{Field: "spec.workloadSelector", Effect: Ignored, Says: "it selects no pod that would be enrolled"})
		return false
	}
	for i, patch := range list(spec["configPatches"]) {
		w.patch(object(patch), fmt.Sprintf("spec.configPatches[%d]", i), v)
	}
	return false
}

func (w *World) patch(patch map[string]any, at string, v *Verdict) {
	to := text(patch["applyTo"])
	where := text(object(patch["match"])["context"])
	value := object(object(patch["patch"])["value"])
	operation := text(object(patch["patch"])["operation"])
	slot, filter := slots[to]
	message, part := messages[to]
	switch {
	case where == "GATEWAY" || where == "WAYPOINT":
		v.add(Finding{Field: at, Effect: Ignored, Says: "it is for gateways or waypoints, which go on as they are"})
	case to == "BOOTSTRAP":
		v.add(Finding{Field: at, Effect: Ignored, Says: "it configures an Envoy of its own, and there is none"})
	case operation == "REMOVE":
		v.add(Finding{Field: at, Effect: Honoured, Says: "what is removed does not come"})
	case filter:
		v.add(extension(slot, value, at+".patch.value"))
	case part:
		w.partial(message, value, at+".patch.value", v)
	default:
		v.add(Finding{Field: at, Effect: Unknown, Says: "applyTo " + to + ": what istiod makes of it is held against docs/xds.md when it comes; try it, and read dubwayctl status"})
	}
}

// extension says whether a filter is one that is implemented.
func extension(slot entry.Slot, value map[string]any, at string) Finding {
	config := object(value["typed_config"])
	if len(config) == 0 {
		config = object(value["typedConfig"])
	}
	name := text(config["@type"])
	if strings.HasSuffix(name, "TypedStruct") {
		if name = text(config["type_url"]); name == "" {
			name = text(config["typeUrl"])
		}
	}
	name = name[strings.LastIndex(name, "/")+1:]
	if name == "" {
		return Finding{Field: at, Effect: Unknown, Says: "it names no type of a filter: try it, and read dubwayctl status"}
	}
	for _, e := range fields.Extensions(slot) {
		if e.Type == name {
			if e.Status == fields.Accepted {
				return Finding{Field: at, Effect: Ignored, Says: name + ": " + e.Note}
			}
			return Finding{Field: at, Effect: Honoured, Says: name + " is implemented; docs/xds.md says which of its fields"}
		}
	}
	return Finding{Field: at, Effect: Rejected, Blocks: true, Says: name + " is not implemented." + listenerRefused}
}

// partial holds the outermost fields of a patch against the table.
func (w *World) partial(message string, value map[string]any, at string, v *Verdict) {
	known := map[string]fields.Field{}
	for _, section := range fields.Sections() {
		for _, m := range section.Messages {
			if string(m.Name) == message {
				for _, f := range m.Fields {
					known[string(f.Name)] = f
				}
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(value)) {
		f, ok := known[snake(key)]
		switch {
		case !ok:
			v.add(Finding{Field: at + "." + key, Effect: Rejected, Blocks: true, Says: "not implemented. The resource that it is patched into is refused as a whole"})
		case f.Status == fields.Accepted:
			v.add(Finding{Field: at + "." + key, Effect: Ignored, Says: f.Note})
		default:
			v.add(Finding{Field: at + "." + key, Effect: Honoured, Says: "implemented; docs/xds.md says which of its fields"})
		}
	}
}

// snake writes a name of protobuf's JSON as in its own files.
func snake(name string) string {
	var b strings.Builder
	for _, r := range name {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
