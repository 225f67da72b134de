package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dubway/dubway/cmd/dubwayctl/manifest"
	"github.com/dubway/dubway/cmd/dubwayctl/plan/policies"
	"github.com/dubway/dubway/cmd/dubwayctl/plan/ports"
)

// missing is the class of a port that no Service has.
const missing = "missing"

// ports says of each Service's port what istiod makes of it, and of which ports of Dubbo
// there is no Service.
func (f *found) ports() []Service {
	var all []Service
	for _, s := range f.world.Services {
		if s.Metadata.Namespace != f.namespace || !slices.ContainsFunc(f.world.Pods, s.Selects) {
			continue
		}
		for i, p := range s.Spec.Ports {
			all = append(all, f.port(s, i, p))
		}
	}
	return append(all, f.unserved()...)
}

// port says what a port is declared as.
func (f *found) port(s *manifest.Service, index int, p manifest.ServicePort) Service {
	class := policies.Class(p)
	j := Service{Name: s.Name(), Port: p.Port, Named: p.Name, Class: string(class), Dubbo: ports.Dubbo(p.Port, p.Name, f.numbers)}
	for _, pod := range f.world.Pods {
		if s.Selects(pod) && ports.Dubbo(p.On(pod), "", f.numbers) {
			j.Dubbo = true
		}
	}
	switch {
	case class == ports.Requests && !j.Dubbo:
		j.Says = "istiod finds its protocol by the first bytes: what is Dubbo has routes, the rest is passed on"
	case class == ports.Requests:
		j.Says = "routes and policies of requests hold"
	case !j.Dubbo:
		j.Says = map[ports.Class]string{
			ports.HTTP:        "HTTP, Triple and gRPC are passed on unread: routes of requests hold for Dubbo calls alone",
			ports.Connections: "connections are passed on, and counted",
			ports.TLS:         "TLS is passed on unread, and counted",
			ports.Datagrams:   "UDP is not steered",
		}[class]
	case class == ports.HTTP:
		j.Says = "routes hold, from the one table of all services with HTTP at this port number; " +
			"the sidecars of others take its Dubbo calls for broken HTTP. Declare it as dubbo"
		j.Fix = policies.Fix(s, index)
	default:
		j.Says = "istiod sends no routes: what VirtualService.http says of it is lost, " +
			"and AuthorizationPolicies by method or path become ones for everything"
		j.Fix = policies.Fix(s, index)
	}
	if class != ports.Datagrams {
		f.undeclared(&j, s, p)
	}
	return j
}

// undeclared says of a port that no container declares that the provider's side is not there.
func (f *found) undeclared(j *Service, s *manifest.Service, p manifest.ServicePort) {
	for _, pod := range f.world.Pods {
		on := p.On(pod)
		if !s.Selects(pod) || slices.Contains(f.declared(pod), on) {
			continue
		}
		j.Says += fmt.Sprintf(". No container of %s declares port %d: the provider's own side (AuthorizationPolicy, mutual TLS, "+
			"its metrics) does not act there; add it to containers[].ports, or to the annotation %s",
			pod.Name(), on, manifest.PortsAnnotation)
		return
	}
}

// declared are the ports that a pod's containers declare.
func (f *found) declared(p *manifest.Pod) []int {
	at := slices.IndexFunc(f.judgements, func(j Pod) bool { return j.Name == p.Name() })
	if at < 0 {
		return nil
	}
	return f.judgements[at].Ports
}

// unserved are the ports of Dubbo that istiod does not know, or not as a registry's consumers
// dial them. Pods of one workload are told of once.
func (f *found) unserved() []Service {
	var all []Service
	told := map[string]bool{}
	for _, p := range f.world.Pods {
		for _, c := range p.Running() {
			for _, port := range c.Ports {
				if !ports.Dubbo(port.ContainerPort, port.Name, f.numbers) {
					continue
				}
				j := Service{Name: manifest.Workload(p), Port: port.ContainerPort, Named: port.Name, Class: missing, Dubbo: true}
				if key := fmt.Sprint(j.Name, j.Port); !told[key] && f.lacks(p, &j) {
					told[key] = true
					all = append(all, j)
				}
			}
		}
	}
	return all
}

// lacks tells whether a pod's port lacks a Service, and says so.
func (f *found) lacks(p *manifest.Pod, j *Service) bool {
	some := false
	for _, s := range f.world.Services {
		if !s.Selects(p) || !slices.ContainsFunc(s.Spec.Ports, func(port manifest.ServicePort) bool { return port.On(p) == j.Port }) {
			continue
		}
		if s.Headless() {
			return false
		}
		some = true
	}
	j.Fix = fmt.Sprintf("dubwayctl generate services -n %s --from-pods %s", f.namespace, selector(p))
	j.Says = "no Service: istiod does not know it, so nothing steers calls to it and no policy holds"
	if some {
		j.Says = "no headless Service: consumers that find it in a registry dial the pods' own addresses, " +
			"of which istiod tells for headless Services only. If nobody does, all is well"
	}
	return true
}

// selector is what chooses a pod's kind on a command line.
func selector(p *manifest.Pod) string {
	labels := manifest.Stable(p)
	var terms []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		terms = append(terms, key+"="+labels[key])
	}
	if len(terms) == 0 {
		return "''"
	}
	return strings.Join(terms, ",")
}
