// Package sockets turns transport sockets into what package snapshot says of mutual TLS.
// Which of them a connection gets is its callers' to say.
package sockets

import (
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/xds/fields"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

// rawName is the name by which a socket without a configuration may be the plain one.
const rawName = "envoy.transport_sockets.raw_buffer"

// Client converts a cluster's transport socket, at path; nil is plaintext.
func Client(p *problems.List, path string, m *corev3.TransportSocket) (out mutual.TLS) {
	if m == nil || m.GetTypedConfig() == nil && m.GetName() == rawName {
		return out
	}
	path += ".typed_config"
	switch typ, _, _ := typed.TypeOf(m.GetTypedConfig()); typ {
	case typed.TypeRawBuffer:
	case typed.TypeUpstreamTLS:
		c := new(tlsv3.UpstreamTlsContext)
		if p.Unpack(path, m.GetTypedConfig(), c) {
			out = mutual.TLS{On: true, SNI: c.GetSni(), Names: common(p, path, c.GetCommonTlsContext())}
		}
	default:
		p.Addf(path, "%s: not implemented at a cluster", typ)
	}
	return out
}

// Server converts the transport socket of a provider's filter chain, at path; nil if it
// is plaintext, or a problem was added.
func Server(p *problems.List, path string, m *corev3.TransportSocket) *mutual.Port {
	if m == nil || m.GetTypedConfig() == nil {
		return nil // which package fields has looked at
	}
	path += ".typed_config"
	switch typ, _, _ := typed.TypeOf(m.GetTypedConfig()); typ {
	case typed.TypeRawBuffer:
	case typed.TypeDownstreamTLS:
		c := new(tlsv3.DownstreamTlsContext)
		if !p.Unpack(path, m.GetTypedConfig(), c) {
			return nil
		}
		if !c.GetRequireClientCertificate().GetValue() {
			p.Addf(path+".require_client_certificate", "not implemented: only true")
		}
		return &mutual.Port{Names: common(p, path, c.GetCommonTlsContext())}
	default:
		p.Addf(path, "%s: not implemented at a listener", typ)
	}
	return nil
}

// common reads whom a context takes, and whether its certificates are the workload's own.
func common(p *problems.List, path string, m *tlsv3.CommonTlsContext) mutual.Names {
	path += ".common_tls_context"
	own := m.GetTlsCertificateSdsSecretConfigs()
	if len(own) != 1 || own[0].GetName() != fields.CertificateName {
		p.Addf(path+".tls_certificate_sds_secret_configs", "not implemented: only one, of the name "+fields.CertificateName)
	}
	roots := m.GetValidationContextSdsSecretConfig()
	both := m.GetCombinedValidationContext()
	at := path + ".validation_context_sds_secret_config"
	if both != nil {
		roots = both.GetValidationContextSdsSecretConfig()
		at = path + ".combined_validation_context.validation_context_sds_secret_config"
	}
	if roots.GetName() != fields.RootsName {
		p.Addf(at, "not implemented: only the name "+fields.RootsName)
	}
	return names(p, path+".combined_validation_context.default_validation_context", both.GetDefaultValidationContext())
}

// names reads the subject alternative names that a peer may have.
func names(p *problems.List, path string, m *tlsv3.CertificateValidationContext) mutual.Names {
	var list []string
	for i, s := range m.GetMatchTypedSubjectAltNames() {
		list = append(list, name(p, fmt.Sprintf("%s.match_typed_subject_alt_names[%d].matcher", path, i), s.GetMatcher()))
	}
	if len(list) == 0 { // as in Envoy, which reads either
		for i, s := range m.GetMatchSubjectAltNames() {
			list = append(list, name(p, fmt.Sprintf("%s.match_subject_alt_names[%d]", path, i), s))
		}
	}
	slices.Sort(list)
	return mutual.Names(strings.Join(slices.Compact(list), " "))
}

func name(p *problems.List, path string, m *matcherv3.StringMatcher) string {
	var text, end string
	switch kind := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		text = kind.Exact
	case *matcherv3.StringMatcher_Prefix:
		text, end = kind.Prefix, "*"
	default:
		p.Addf(path, "not implemented: only exact and prefix")
	}
	if m.GetIgnoreCase() {
		p.Addf(path+".ignore_case", "not implemented")
	}
	if strings.ContainsAny(text, " *\t\r\n") {
		p.Addf(path, "%q is no URI", text)
	}
	return text + end
}
