// Package convert turns clusters and endpoint assignments into the types of package
// snapshot: pure functions from one message to what it means, or to everything that is
// wrong with it. Listeners are package listeners', route tables package routes'. What a
// field may hold is checked by Envoy's own validation rules; which fields may be set at
// all is the table of package fields. It knows no files and joins no resources: package
// xds does.
package convert
