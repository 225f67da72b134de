package generate

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/dubway/dubway/cmd/dubwayctl/plan/policies"
	"github.com/dubway/dubway/cmd/dubwayctl/plan/ports"
	"github.com/dubway/dubway/internal/admin"
)

// Interfaces is the annotation that lists what a generated Service serves. It is for people,
// who write routes by interface: nothing reads it.
const Interfaces = "dubway.io/interfaces"

const (
	managed = "app.kubernetes.io/managed-by"
	by      = "dubwayctl"
	// longest bounds the annotation: the API allows 256 KiB of them together.
	longest = 16 << 10
	// suffix is added to a name that another Service has.
	suffix = "-dubbo"
	// name is how a port must be called for istiod to send routes of requests for it.
	name = "dubbo"
)

// Document is what the command answers with -o json.
type Document struct {
	APIVersion string    `json:"apiVersion"`
	Services   []Service `json:"services"`
	Notes      []string  `json:"notes"`     // what an operator should know, or do
	Unmatched  []string  `json:"unmatched"` // registered addresses that are no pod's
}

// Service is a Service of the API, with the fields that a generated one has.
type Service struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
}

// Metadata is that of a Service.
type Metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Spec is that of a Service. It is headless, since consumers dial pods; pods that are not
// ready are not published, so that a consumer which has such an address from its registry is
// led to one that is.
type Spec struct {
	ClusterIP string            `json:"clusterIP"` //nolint:tagliatelle // as Kubernetes spells it
	Selector  map[string]string `json:"selector"`
	Ports     []Port            `json:"ports"`
}

// Port is a port of a Service; the pods listen on the same one.
type Port struct {
	Name     string `json:"name"`
	Port     int    `json:"port"`
	Protocol string `json:"protocol"`
}

// result makes the Services of all that is served, in the order of their names.
func (f *fleet) result(a *asked) *Document {
	d := &Document{APIVersion: admin.APIVersion, Services: []Service{}, Notes: []string{}, Unmatched: append([]string{}, f.strange...)}
	taken := map[string]bool{}
	for _, s := range f.services {
		taken[s.Name()] = true
	}
	for _, key := range slices.Sorted(maps.Keys(f.served)) {
		s := f.served[key]
		if len(s.selector) == 0 {
			d.Notes = append(d.Notes, s.workload+" has no label that a selector could name: give its pods app=NAME")
			continue
		}
		if service, ok := f.service(s, taken, d); ok {
			d.Services = append(d.Services, service)
		}
	}
	slices.SortFunc(d.Services, func(a, b Service) int {
		return strings.Compare(a.Metadata.Namespace+"/"+a.Metadata.Name, b.Metadata.Namespace+"/"+b.Metadata.Name)
	})
	slices.Sort(d.Unmatched)
	if a.registry != "" {
		if at, err := url.Parse(a.registry); err == nil {
			for i := range d.Services {
				d.Services[i].Metadata.Annotations["dubway.io/generated-from"] = at.Scheme + "://" + at.Host
			}
		}
	}
	return d
}

// service makes one Service, of the ports that no other has.
func (f *fleet) service(s *serving, taken map[string]bool, d *Document) (Service, bool) {
	slices.Sort(s.ports)
	var open []Port
	for _, number := range s.ports {
		if other, port := f.known(s, number); other != nil {
			note := fmt.Sprintf("%s, port %d: the headless Service %s has it already", s.workload, number, other.Name())
			if class := policies.Class(port); class != ports.Requests {
				note += fmt.Sprintf(", but declared as %s: %s", class, fixOf(other, port))
			}
			d.Notes = append(d.Notes, note)
			continue
		}
		called := name
		if len(open) > 0 {
			called = fmt.Sprintf("%s-%d", name, number)
		}
		open = append(open, Port{Name: called, Port: number, Protocol: "TCP"})
	}
	if len(open) == 0 {
		return Service{}, false
	}
	if others := f.others(s); len(others) > 0 {
		d.Notes = append(d.Notes, fmt.Sprintf("the selector %s takes %d pod(s) that serve nothing there, such as %s: "+
			"narrow it before you apply the Service", spell(s.selector), len(others), others[0]))
	}
	annotations := map[string]string{}
	slices.Sort(s.interfaces)
	if len(s.interfaces) > 0 {
		annotations[Interfaces] = shortened(s.interfaces)
	}
	called := free(s, taken)
	taken[s.namespace+"/"+called] = true
	return Service{
		APIVersion: "v1", Kind: "Service",
		Metadata: Metadata{Name: called, Namespace: s.namespace, Labels: map[string]string{managed: by}, Annotations: annotations},
		Spec:     Spec{ClusterIP: "None", Selector: s.selector, Ports: open},
	}, true
}

// shortened lists interfaces, as many as an annotation may have.
func shortened(all []string) string {
	text := strings.Join(all, ",")
	if len(text) <= longest {
		return text
	}
	text = text[:longest]
	text = text[:strings.LastIndexByte(text, ',')]
	return fmt.Sprintf("%s,... (%d in all)", text, len(all))
}

// free is a name that no Service of the namespace has: that of the application's label, else
// that of its workload.
func free(s *serving, taken map[string]bool) string {
	_, called, _ := strings.Cut(s.workload, "/")
	for _, key := range []string{"k8s-app", "app", "app.kubernetes.io/name"} {
		if s.selector[key] != "" {
			called = s.selector[key]
		}
	}
	switch instance := s.selector["app.kubernetes.io/instance"]; {
	case strings.Contains(instance, called):
		called = instance
	case instance != "":
		called += "-" + instance
	}
	called = spelt(called)
	for n := 1; taken[s.namespace+"/"+called]; n++ {
		called = strings.TrimSuffix(called, suffix) + suffix
		if n > 1 {
			called = fmt.Sprintf("%s%d", called, n)
		}
	}
	return called
}

// spelt makes a name of a Service (RFC 1035) of a label's value.
func spelt(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, text)
	if text == "" || text[0] < 'a' || text[0] > 'z' {
		text = "dubbo-" + text
	}
	const most = 63 - len(suffix) - 2
	return strings.TrimRight(text[:min(len(text), most)], "-")
}

// write writes the manifests, and what is to be said of them where no pipe takes it.
func (p *Params) write(d *Document) error {
	if p.JSON() {
		return p.Write(d, nil)
	}
	for _, note := range d.Notes {
		if _, err := fmt.Fprintln(p.Stderr, "note:", note); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	for _, address := range d.Unmatched {
		if _, err := fmt.Fprintln(p.Stderr, "no pod has this address:", address); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	if len(d.Services) == 0 {
		return errNothing
	}
	for i := range d.Services {
		text, err := yaml.Marshal(&d.Services[i])
		if err == nil {
			_, err = fmt.Fprintf(p.Stdout, "---\n%s", text)
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}
