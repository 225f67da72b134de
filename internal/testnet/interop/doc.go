// Package interop holds the mesh's mutual TLS against those who speak it elsewhere: a
// stock Envoy as Istio's sidecars are configured, and OpenSSL. It has tests only, which
// need no privilege.
package interop
