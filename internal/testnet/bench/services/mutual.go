package services

import "github.com/dubway/dubway/internal/testnet"

// certificates are those of a workload's own, as istiod asks for them.
const certificates = `common_tls_context: {tls_certificate_sds_secret_configs: [{name: default}], validation_context_sds_secret_config: {name: ROOTCA}}`

// socket is that of a cluster whose endpoints are reached by mutual TLS.
const socket = `  transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, ` + certificates + `}}
`

// Inbound has the provider take mutual TLS beside plaintext, as PeerAuthentication PERMISSIVE does.
const Inbound = `resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: virtualInbound
  traffic_direction: INBOUND
  metadata: {filter_metadata: {dubway.io: {workload: ` + testnet.Namespace + `/provider}}}
  address: {socket_address: {address: 0.0.0.0, port_value: 15006}}
  filter_chains:
  - filter_chain_match: {destination_port: 20880, transport_protocol: tls, application_protocols: [istio]}
    transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, require_client_certificate: true, ` + certificates + `}}
    filters: &here
    - {name: t, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: x, cluster: "inbound|20880||"}}
  - filter_chain_match: {destination_port: 20880, transport_protocol: raw_buffer}
    filters: *here
`
