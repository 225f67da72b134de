package policies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dubway/dubway/cmd/dubwayctl/manifest"
	"github.com/dubway/dubway/cmd/dubwayctl/plan/ports"
)

// World is what objects are about.
type World struct {
	Namespace string // that is planned for
	Root      string // Istio's root namespace, whose objects hold everywhere
	Domain    string // of the cluster, such as cluster.local
	Services  []*manifest.Service
	Entries   []*Entry
	Pods      []*manifest.Pod // that would be enrolled
	Outside   int             // pods of the namespace that would not, and do run
	Numbers   []int           // of ports that are Dubbo's
}

// Entry is what of a ServiceEntry matters here.
type Entry struct {
	Metadata manifest.Metadata `json:"metadata"`
	Spec     struct {
		Hosts []string `json:"hosts"`
		Ports []struct {
			Number   int    `json:"number"`
			Name     string `json:"name"`
			Protocol string `json:"protocol"`
		} `json:"ports"`
	} `json:"spec"`
}

// port is a port of a host.
type port struct {
	of     string // "Service shop/orders"
	number int
	name   string
	class  ports.Class
	dubbo  bool
	fix    string // a command that makes it a port of requests
}

func (p port) String() string {
	if p.name == "" {
		return fmt.Sprintf("port %d of %s", p.number, p.of)
	}
	return fmt.Sprintf("port %d (%s) of %s", p.number, p.name, p.of)
}

// Fix is a command that says of a Service's port that it is Dubbo's. The port keeps its
// name, by which others may know it.
func Fix(s *manifest.Service, index int) string {
	return fmt.Sprintf(`kubectl -n %s patch service %s --type=json -p '[{"op":"add","path":"/spec/ports/%d/appProtocol","value":"dubbo"}]'`,
		s.Metadata.Namespace, s.Metadata.Name, index)
}

// Class is what a port of a Service has.
func Class(p manifest.ServicePort) ports.Class {
	return ports.Of(ports.Declared{Number: p.Port, Name: p.Name, AppProtocol: p.AppProtocol, Protocol: p.Protocol})
}

// ofService are a Service's ports.
func (w *World) ofService(s *manifest.Service) []port {
	var all []port
	for i, p := range s.Spec.Ports {
		all = append(all, port{
			of: "Service " + s.Name(), number: p.Port, name: p.Name, class: Class(p), fix: Fix(s, i),
			dubbo: ports.Dubbo(p.Port, p.Name, w.Numbers) || p.TargetPort.Number > 0 && ports.Dubbo(p.TargetPort.Number, "", w.Numbers),
		})
	}
	return all
}

// ofHost are the ports of a host that an object of a namespace names, and whether it is
// known at all. Short names are completed as istiod does.
func (w *World) ofHost(host, namespace string) (all []port, known bool) {
	host = strings.ToLower(host)
	full := host
	if !strings.Contains(host, ".") {
		full = host + "." + namespace + ".svc." + w.Domain
	}
	for _, s := range w.Services {
		if named(full, s.Metadata.Name+"."+s.Metadata.Namespace+".svc."+w.Domain) {
			all, known = append(all, w.ofService(s)...), true
		}
	}
	for _, e := range w.Entries {
		if !slices.ContainsFunc(e.Spec.Hosts, func(h string) bool { return named(host, strings.ToLower(h)) }) {
			continue
		}
		known = true
		for i, p := range e.Spec.Ports {
			all = append(all, port{
				of: "ServiceEntry " + e.Metadata.Namespace + "/" + e.Metadata.Name, number: p.Number, name: p.Name,
				class: ports.OfEntry(p.Protocol), dubbo: ports.Dubbo(p.Number, p.Name, w.Numbers),
				fix: fmt.Sprintf(`kubectl -n %s patch serviceentry %s --type=json -p '[{"op":"replace","path":"/spec/ports/%d/protocol","value":"DUBBO"}]'`,
					e.Metadata.Namespace, e.Metadata.Name, i),
			})
		}
	}
	return all, known
}

// named tells whether a host that may begin with *. means another.
func named(pattern, host string) bool {
	if rest, wild := strings.CutPrefix(pattern, "*"); wild {
		return strings.HasSuffix(host, rest)
	}
	return pattern == host
}

// selected are the pods that a policy of the provider's side is for.
func (w *World) selected(o *manifest.Object) []*manifest.Pod {
	if o.Metadata.Namespace != w.Namespace && o.Metadata.Namespace != w.Root {
		return nil
	}
	spec := object(o.Body["spec"])
	labels := map[string]string{}
	for _, name := range []string{"matchLabels", "labels"} {
		for _, of := range []string{"selector", "workloadSelector"} {
			for key, value := range object(object(spec[of])[name]) {
				labels[key] = text(value)
			}
		}
	}
	var found []*manifest.Pod
	for _, p := range w.Pods {
		if manifest.Matches(labels, p.Metadata.Labels) {
			found = append(found, p)
		}
	}
	return found
}

// portsOf are the ports by which the pods of a policy are known, each once.
func (w *World) portsOf(o *manifest.Object) []port {
	var all []port
	pods := w.selected(o)
	for _, s := range w.Services {
		if slices.ContainsFunc(pods, s.Selects) {
			all = append(all, w.ofService(s)...)
		}
	}
	return all
}

// object, list and text read what an object says; what is of another form is empty.
func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func texts(v any) (all []string) {
	for _, item := range list(v) {
		all = append(all, text(item))
	}
	return all
}

// refersTo tells whether a list of references names one of a kind.
func refersTo(refs []any, kind string) bool {
	return slices.ContainsFunc(refs, func(ref any) bool { return text(object(ref)["kind"]) == kind })
}
