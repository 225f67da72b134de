package telemetry

import (
	"strconv"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/accesslog"
	"github.com/dubway/dubway/l7proxy/telemetry/names"
	"github.com/dubway/dubway/l7proxy/telemetry/shape"
)

// statusOther stands for every status that is not one of Dubbo's.
const statusOther = 255

// responseCode returns the label value of a status.
func responseCode(status uint8) string {
	if strange(status) {
		return names.Other
	}
	return strconv.Itoa(int(status))
}

// statusName returns the label value of a status in Dubbo's words.
func statusName(status uint8) string {
	switch {
	case status == 0:
		return names.None
	case strange(status):
		return names.Other
	}
	return accesslog.StatusName(status)
}

// serializationOther stands for every id that is not one of Dubbo's.
const serializationOther = 255

// serialization holds what stands for each id in an outcome. An id is five bits
// that consumers choose: only the known ones are label values.
var serialization = func() (ids [256]uint8) {
	for id := range ids {
		ids[id] = uint8(id)
		if accesslog.SerializationName(uint8(id)) == accesslog.Unknown {
			ids[id] = serializationOther
		}
	}
	return ids
}()

// serializationName returns the label value of what stands for an id.
func serializationName(id uint8) string {
	switch id {
	case 0:
		return names.None
	case serializationOther:
		return names.Other
	}
	return accesslog.SerializationName(id)
}

// strange tells that a status is not one of Dubbo's. A status is one byte that
// providers choose: only the known ones are label values.
func strange(status uint8) bool { return accesslog.StatusName(status) == accesslog.Unknown }

// side is a value of the label reporter.
type side struct {
	reporter rpc.Reporter
	name     string
}

var sides = []side{{rpc.ReporterSource, "source"}, {rpc.ReporterDestination, "destination"}}

// requestLabels are the names of the labels of Istio's request metrics, sorted,
// and Dubbo's among them.
var requestLabels = []string{
	"connection_security_policy",
	"destination_app", "destination_canonical_revision", "destination_canonical_service",
	"destination_cluster", "destination_principal", "destination_service",
	"destination_service_name", "destination_service_namespace", "destination_version",
	"destination_workload", "destination_workload_namespace",
	"dubbo_exception", "dubbo_interface", "dubbo_method", "dubbo_result", "dubbo_status",
	"reporter", "request_protocol", "response_code", "response_flags",
	"source_app", "source_canonical_revision", "source_canonical_service",
	"source_cluster", "source_principal", "source_version",
	"source_workload", "source_workload_namespace",
}

// tcpLabels are the names of the labels of Istio's TCP metrics, sorted.
var tcpLabels = []string{
	"connection_security_policy",
	"destination_app", "destination_canonical_revision", "destination_canonical_service",
	"destination_cluster", "destination_principal", "destination_service",
	"destination_service_name", "destination_service_namespace", "destination_version",
	"destination_workload", "destination_workload_namespace",
	"reporter", "request_protocol", "response_flags",
	"source_app", "source_canonical_revision", "source_canonical_service",
	"source_cluster", "source_principal", "source_version",
	"source_workload", "source_workload_namespace",
}

// destinationValues are the values from connection_security_policy to
// destination_workload_namespace.
func (id *identity) destinationValues() []string {
	d := &id.destination
	return append(make([]string, 0, len(requestLabels)),
		id.security, d.app, d.revision, d.canonical, d.cluster, d.principal,
		id.serviceHost, id.serviceName, id.serviceNamespace, d.version, d.workload, d.namespace)
}

// withSource adds the values from source_app to source_workload_namespace.
func (id *identity) withSource(values []string) []string {
	s := &id.source
	return append(values, s.app, s.revision, s.canonical, s.cluster, s.principal, s.version, s.workload, s.namespace)
}

// requestText is the labels of a series of the request metrics.
func (g *group) requestText(reporter string, out published) string {
	id := &g.identity
	values := append(id.destinationValues(),
		out.exception, id.iface, id.method, out.result, out.status, reporter, id.protocol, out.code, out.flags)
	text := make([]byte, 0, 1<<10)
	if id.application != "" {
		text = append(appendLabels(text, applicationLabels, []string{id.application}), ',')
	}
	names, values := shape.Labels(g.change, id.tags, requestLabels, id.withSource(values))
	return string(appendLabels(text, names, values))
}

// applicationLabels is what the request metrics have too if an option asks.
var applicationLabels = []string{"dubbo_consumer_application"}

// serializationLabels are the labels of dubway_serialization_requests_total: who
// would have to change what, and no more. On the request metrics it would make
// each histogram anew.
var serializationLabels = []string{
	"destination_service", "dubbo_serialization", "lane", "reporter", "source_workload", "source_workload_namespace",
}

func (k *serializationKey) text() string {
	return string(appendLabels(nil, serializationLabels,
		[]string{k.service, serializationName(k.id), strconv.FormatBool(k.lane), k.reporter, k.workload, k.namespace}))
}

// tcpText is the labels of a series of the TCP metrics.
func (id *identity) tcpText(reporter, flags string, change *report.Change) string {
	values := append(id.destinationValues(), reporter, id.protocol, flags)
	names, values := shape.Labels(change, id.tags, tcpLabels, id.withSource(values))
	return string(appendLabels(make([]byte, 0, 1<<10), names, values))
}
