package conditions

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// Metadata converts a HeaderMatcher on what a codec of Aeraki's proxy tells of a request:
// its names have no case, and all but two are attachments.
func Metadata(p *problems.List, path string, m *routev3.HeaderMatcher) snapshot.HeaderMatch {
	h := Any(p, path, m)
	if h.Name == "" {
		p.Addf(path+".name", "required")
	}
	Property(&h)
	return h
}

// Property makes the name of h a property of a request in Aeraki's sense.
func Property(h *snapshot.HeaderMatch) {
	switch name := strings.ToLower(h.Name); name {
	case "interface", "method":
		h.Source, h.Name = snapshot.SourceName, name
	default:
		h.Source = snapshot.SourceAttachment
	}
}
