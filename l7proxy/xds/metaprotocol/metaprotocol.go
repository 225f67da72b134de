// Package metaprotocol is the messages of Aeraki's MetaProtocolProxy and of its filters, as
// control planes write them (aeraki.meta_protocol_proxy.v1alpha of meta-protocol-proxy 1.4).
// The .proto files are ours, with every field of theirs: the Go module that Aeraki publishes
// its own in cannot be had from the module proxy. It converts nothing.
package metaprotocol

//go:generate go -C ../../../tools/proto run . ../../l7proxy/xds/metaprotocol
