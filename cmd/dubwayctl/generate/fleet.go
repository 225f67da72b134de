package generate

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/dubway/dubway/cmd/dubwayctl/manifest"
	"github.com/dubway/dubway/cmd/dubwayctl/plan/policies"
	"github.com/dubway/dubway/cmd/dubwayctl/plan/ports"
	"github.com/dubway/dubway/cmd/dubwayctl/registry"
)

// fleet is what there is: pods and Services, and what of the pods serves Dubbo.
type fleet struct {
	pods     []*manifest.Pod // running, by name
	services []*manifest.Service
	served   map[string]*serving // by namespace and selector
	strange  []string            // addresses that are no pod's
}

// serving is an application: the pods that one Service is to have.
type serving struct {
	namespace  string
	selector   map[string]string
	workload   string // of its first pod
	pods       []*manifest.Pod
	ports      []int
	interfaces []string
}

// take sorts objects.
func take(objects []manifest.Object, a *asked) (*fleet, error) {
	f := &fleet{served: map[string]*serving{}}
	for i := range objects {
		o := &objects[i]
		if o.Metadata.Namespace == "" {
			o.Metadata.Namespace = a.namespace
		}
		if a.namespace != "" && o.Metadata.Namespace != a.namespace {
			continue
		}
		switch o.Type() {
		case "Pod":
			p := new(manifest.Pod)
			if err := o.Into(p); err != nil {
				return nil, err
			}
			p.Metadata = o.Metadata
			if !p.Finished() {
				f.pods = append(f.pods, p)
			}
		case "Service":
			s := new(manifest.Service)
			if err := o.Into(s); err != nil {
				return nil, err
			}
			s.Metadata = o.Metadata
			f.services = append(f.services, s)
		}
	}
	slices.SortFunc(f.pods, func(a, b *manifest.Pod) int { return strings.Compare(a.Name(), b.Name()) })
	slices.SortFunc(f.services, func(a, b *manifest.Service) int { return strings.Compare(a.Name(), b.Name()) })
	return f, nil
}

// match finds the pods of registered addresses.
func (f *fleet) match(providers []registry.Provider) {
	by := map[netip.Addr]*manifest.Pod{}
	for _, p := range f.pods {
		if p.Spec.HostNetwork {
			continue // the node's address, which is no pod's own
		}
		for _, text := range p.Addresses() {
			if a, err := netip.ParseAddr(text); err == nil {
				by[a.Unmap()] = p
			}
		}
	}
	for i := range providers {
		p := &providers[i]
		address, _ := p.Address()
		pod := by[address]
		if pod == nil {
			who := net.JoinHostPort(p.Host, strconv.Itoa(p.Port))
			if p.Application != "" {
				who += " of " + p.Application
			}
			f.strange = append(f.strange, who)
			continue
		}
		f.serve(pod, p.Port, p.Interfaces)
	}
}

// selectPods takes the pods of a selector, with the ports that look like Dubbo's.
func (f *fleet) selectPods(a *asked) error {
	wanted, err := parse(a.pods)
	if err != nil {
		return err
	}
	for _, p := range f.pods {
		if p.Spec.HostNetwork || !manifest.Matches(wanted, p.Metadata.Labels) {
			continue
		}
		some := false
		for _, c := range p.Running() {
			for _, port := range c.Ports {
				if ports.Dubbo(port.ContainerPort, port.Name, a.numbers) {
					some = true
					f.serve(p, port.ContainerPort, nil)
				}
			}
		}
		// Containers need not declare what they listen on; those that were asked for do.
		if !some && len(wanted) > 0 && len(p.Ports()) == 0 && len(a.numbers) > 0 {
			f.serve(p, a.numbers[0], nil)
		}
	}
	if len(f.served) == 0 {
		return fmt.Errorf("no running pod with a network of its own and a port of Dubbo has the labels %q: "+
			"is it the right namespace, and is --dubbo-port theirs?", a.pods)
	}
	return nil
}

// parse reads a selector of equalities, the form that a Service's selector has too.
func parse(text string) (map[string]string, error) {
	labels := map[string]string{}
	for term := range strings.SplitSeq(text, ",") {
		if term = strings.TrimSpace(term); term == "" {
			continue
		}
		key, value, ok := strings.Cut(term, "=")
		value = strings.TrimPrefix(value, "=")
		if !ok || strings.HasSuffix(key, "!") {
			return nil, fmt.Errorf("--from-pods %q: write KEY=VALUE, with commas between: a Service's selector knows nothing else", text)
		}
		labels[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return labels, nil
}

// serve notes that a pod serves at a port.
func (f *fleet) serve(p *manifest.Pod, port int, interfaces []string) {
	labels := manifest.Stable(p)
	key := p.Metadata.Namespace + " " + spell(labels)
	if len(labels) == 0 {
		key += p.Name() // nothing selects it: it is told of by itself
	}
	s := f.served[key]
	if s == nil {
		s = &serving{namespace: p.Metadata.Namespace, selector: labels, workload: manifest.Workload(p)}
		f.served[key] = s
	}
	if !slices.Contains(s.pods, p) {
		s.pods = append(s.pods, p)
	}
	if !slices.Contains(s.ports, port) {
		s.ports = append(s.ports, port)
	}
	for _, i := range interfaces {
		if !slices.Contains(s.interfaces, i) {
			s.interfaces = append(s.interfaces, i)
		}
	}
}

// spell writes labels in order.
func spell(labels map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, key+"="+labels[key])
	}
	return strings.Join(all, ",")
}

// known returns the headless Service that has these pods at this port already, and whether
// istiod takes the port for one of requests.
func (f *fleet) known(s *serving, port int) (by *manifest.Service, declared manifest.ServicePort) {
	for _, service := range f.services {
		if !service.Headless() {
			continue
		}
		for _, p := range service.Spec.Ports {
			has := func(pod *manifest.Pod) bool { return service.Selects(pod) && p.On(pod) == port }
			if !slices.ContainsFunc(s.pods, func(pod *manifest.Pod) bool { return !has(pod) }) {
				return service, p
			}
		}
	}
	return nil, manifest.ServicePort{}
}

// others are pods that a selector takes although they serve nothing.
func (f *fleet) others(s *serving) []string {
	var all []string
	for _, p := range f.pods {
		if p.Metadata.Namespace == s.namespace && manifest.Matches(s.selector, p.Metadata.Labels) && !slices.Contains(s.pods, p) {
			all = append(all, p.Name())
		}
	}
	return all
}

// fixOf is what mends the port of a Service that is there.
func fixOf(s *manifest.Service, p manifest.ServicePort) string {
	at := slices.IndexFunc(s.Spec.Ports, func(other manifest.ServicePort) bool { return other.Port == p.Port && other.Name == p.Name })
	return policies.Fix(s, at)
}

var errNothing = errors.New("nothing to write: no provider is a pod's, or all have their Service; see above")
