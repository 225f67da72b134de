package fields

import (
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

const (
	ownBundle = "certificates and roots are the workload's own, whatever the source: sds-grpc is a sidecar's own agent"
	goCiphers = "The ECDHE ones are spoken, and in TLS 1.3 its own"
)

// tlsMessages are those of both TLS contexts: the mesh's own mutual TLS and no other.
var tlsMessages = []Message{
	{typed.TypeUpstreamTLS, []Field{yes("common_tls_context"), yes("sni")}},
	{typed.TypeDownstreamTLS, []Field{yes("common_tls_context"), only("require_client_certificate", isTrue, "only true")}},
	{"envoy.extensions.transport_sockets.tls.v3.CommonTlsContext", []Field{
		yes("tls_params"),
		yes("tls_certificate_sds_secret_configs", "one, of the name default"),
		yes("validation_context_sds_secret_config", "of the name ROOTCA"),
		yes("combined_validation_context"),
		accept("alpn_protocols", "offered is istio alone, and of what a client offers h2, http/1.1 or istio is chosen: istio-peer-exchange would have to be spoken first"),
	}},
	{"envoy.extensions.transport_sockets.tls.v3.TlsParameters", []Field{
		only("tls_minimum_protocol_version", isEnum(0, 3), "only TLSv1_2 and TLS_AUTO, which is 1.2"),
		only("tls_maximum_protocol_version", isEnum(0, 4), "only TLSv1_3 and TLS_AUTO, which is 1.3"),
		only("cipher_suites", areStrings("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
			"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-GCM-SHA256"),
			"only those that Istio names. "+goCiphers),
	}},
	{"envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig", []Field{
		only("name", isString(CertificateName, RootsName), "only default and ROOTCA: no other certificate is there"),
		accept("sds_config", ownBundle),
	}},
	{"envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext", []Field{yes("default_validation_context"), yes("validation_context_sds_secret_config", "of the name ROOTCA")}},
	{"envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext", []Field{yes("match_typed_subject_alt_names"), yes("match_subject_alt_names", "URIs only, exact or prefix")}},
	{"envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher", []Field{
		only("san_type", isEnum(3), "only URI"),
		yes("matcher", "exact or prefix"),
	}},
}

// The names by which a workload's own certificate and the mesh's roots are asked for.
const (
	CertificateName = "default"
	RootsName       = "ROOTCA"
)
