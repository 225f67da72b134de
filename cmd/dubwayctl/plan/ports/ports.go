// Package ports knows what istiod makes of how a port is declared: whether it sends
// listeners for requests, with routes, or for connections. The rules are those of istiod's
// pkg/config/kube/conversion.go and pkg/config/protocol/instance.go; what it sends was
// recorded (l7proxy/xds/testdata/istiod), and calls are made by it in `make e2e-istiod`.
package ports

import (
	"slices"
	"strings"
)

// Class is what a port has.
type Class string

// The classes.
const (
	// Requests is a port whose protocol istiod does not know, such as dubbo: its listener
	// has a chain for requests, with all routes, and one for everything else.
	Requests Class = "requests"
	// HTTP is HTTP, HTTP/2 or gRPC: requests too, in a table that all such services of
	// the port number share. Dubbo calls are routed by it, HTTP itself is passed on.
	HTTP Class = "http"
	// Connections is TCP and what is like it: istiod sends no routes.
	Connections Class = "connections"
	// TLS is TCP of which the server name is known.
	TLS Class = "tls"
	// Datagrams are UDP: nobody steers them.
	Datagrams Class = "datagrams"
)

// Declared is how a port is declared.
type Declared struct {
	Number      int
	Name        string  // of a Service's port
	AppProtocol *string // of a Service's port; nil if there is none. It goes before the name
	Protocol    string  // of a Service's port "", TCP or UDP
}

// wellKnown are the numbers that istiod takes for TCP if nothing else is said.
var wellKnown = []int{25, 53, 3306, 27017}

// words are the protocols that istiod knows by name, in lower case.
var words = map[string]Class{
	"tcp": Connections, "mongo": Connections, "redis": Connections, "mysql": Connections,
	"udp": Datagrams, "tls": TLS, "https": TLS,
	"http": HTTP, "http2": HTTP, "http_proxy": HTTP, "grpc": HTTP, "grpc-web": HTTP,
}

// app are appProtocols that Kubernetes itself defines.
var app = map[string]Class{"kubernetes.io/h2c": HTTP, "kubernetes.io/ws": HTTP, "kubernetes.io/wss": TLS}

// Of returns what a Service's port has.
func Of(d Declared) Class {
	if strings.EqualFold(d.Protocol, "UDP") {
		return Datagrams
	}
	name := d.Name
	if d.AppProtocol != nil {
		name = *d.AppProtocol
		if class, ok := app[name]; ok {
			return class
		}
	}
	name = strings.ToLower(name)
	if strings.HasPrefix(name, "grpc-web") {
		return HTTP
	}
	name, _, _ = strings.Cut(name, "-")
	if class, ok := words[name]; ok {
		return class
	}
	if slices.Contains(wellKnown, d.Number) {
		return Connections
	}
	return Requests
}

// OfEntry returns what a ServiceEntry's port has, by its field protocol: its name says
// nothing there.
func OfEntry(protocol string) Class {
	if class, ok := words[strings.ToLower(protocol)]; ok {
		return class
	}
	return Requests
}

// Dubbo tells whether a port looks like one of Dubbo, by its number or by a word in its name.
func Dubbo(number int, name string, numbers []int) bool {
	if slices.Contains(numbers, number) {
		return true
	}
	for word := range strings.FieldsFuncSeq(strings.ToLower(name), func(r rune) bool { return r == '-' || r == '_' || r == '.' }) {
		if word == "dubbo" || word == "dubbo2" || word == "metaprotocol" {
			return true
		}
	}
	return false
}
