package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dubway/dubway/cmd/dubwayctl/manifest"
	"github.com/dubway/dubway/cmd/dubwayctl/plan/policies"
	"github.com/dubway/dubway/cmd/dubwayctl/plan/ports"
	"github.com/dubway/dubway/internal/enrolment"
)

// own are the ports that Dubway opens in each pod.
var own = []int{15001, 15006}

// conflicts says what else is in the way.
func (f *found) conflicts() []Conflict {
	return slices.Concat(f.meshes(), f.taken(), f.claims(), f.scraping())
}

// meshes are other data planes that want the same pods.
func (f *found) meshes() []Conflict {
	var all []Conflict
	name := "namespace " + f.namespace
	if injected := f.labels["istio-injection"] == "enabled" || f.labels["istio.io/rev"] != ""; injected {
		all = append(all, Conflict{
			Subject: name, Says: "Istio injects sidecars into new pods, and pods with a sidecar stay out of Dubway",
			Fix: "kubectl label namespace " + f.namespace + " istio-injection- istio.io/rev-" + f.restart(),
		})
	}
	if mode := f.labels["istio.io/dataplane-mode"]; mode != "" && mode != "none" {
		says := "its pods belong to Istio's ambient mesh, and stay out of Dubway"
		if mode != enrolment.Ambient {
			says = "its pods belong to the data plane " + mode + " too: two of them would handle each connection"
		}
		all = append(all, Conflict{
			Subject: name, Says: says,
			Fix: "kubectl label namespace " + f.namespace + " istio.io/dataplane-mode-",
		})
	}
	linkerd := 0
	for _, p := range f.world.Pods {
		linkerd += one(slices.ContainsFunc(p.Running(), func(c manifest.Container) bool { return c.Name == "linkerd-proxy" }))
	}
	if linkerd > 0 || f.annotations["linkerd.io/inject"] == "enabled" {
		all = append(all, Conflict{
			Subject: name,
			Says:    fmt.Sprintf("Linkerd's proxy is in %d pod(s) that would be steered: two proxies for each connection", linkerd),
			Fix:     "kubectl annotate namespace " + f.namespace + " linkerd.io/inject-" + f.restart(),
			Blocks:  linkerd > 0,
		})
	}
	return all
}

// restart follows a change that only new pods see.
func (f *found) restart() string {
	return " && kubectl -n " + f.namespace + " rollout restart deployment"
}

// taken are pods whose containers want the ports of the mesh.
func (f *found) taken() []Conflict {
	var all []Conflict
	for _, p := range f.world.Pods {
		for _, port := range f.declared(p) {
			if slices.Contains(own, port) {
				all = append(all, Conflict{
					Subject: "pod " + p.Name(), Blocks: true,
					Says: fmt.Sprintf("a container listens on %d, which Dubway opens in every pod: the pod could not be enrolled", port),
					Fix:  "kubectl -n " + p.Metadata.Namespace + " label pod " + p.Metadata.Name + " dubway.io/mesh=disabled",
				})
			}
		}
	}
	return all
}

// claim is what one Service says of a pod's port.
type claim struct {
	class ports.Class
	by    string
}

// claims are ports of pods of which Services say different things: istiod makes one chain of
// them at the provider, and which one it does not say.
func (f *found) claims() []Conflict {
	var all []Conflict
	told := map[string]bool{}
	for _, p := range f.world.Pods {
		by := map[int][]claim{}
		for _, s := range f.world.Services {
			if !s.Selects(p) {
				continue
			}
			for _, port := range s.Spec.Ports {
				if class := policies.Class(port); class != ports.Datagrams {
					by[port.On(p)] = append(by[port.On(p)], claim{class, fmt.Sprintf("%s (%s)", s.Name(), port.Name)})
				}
			}
		}
		for number, claims := range by {
			var words []string
			different := false
			for _, c := range claims {
				different = different || c.class != claims[0].class
				words = append(words, c.by+" "+string(c.class))
			}
			subject := fmt.Sprintf("port %d of %s", number, manifest.Workload(p))
			if !different || told[subject] {
				continue
			}
			told[subject] = true
			all = append(all, Conflict{
				Subject: subject, Says: "several Services claim it, for different protocols: " + strings.Join(words, ", ") +
					". At the provider one of them holds, and istiod does not say which",
				Fix: "give all of them appProtocol: dubbo",
			})
		}
	}
	slices.SortFunc(all, func(a, b Conflict) int { return strings.Compare(a.Subject, b.Subject) })
	return all
}

// scraping are NetworkPolicies of the mesh's own namespace that keep Prometheus from the
// proxy's metrics, or the proxy from the control plane. Those of applications hold as they
// are: Dubway dials as the pod itself, to the port that it would have dialled.
func (f *found) scraping() []Conflict {
	var all []Conflict
	labels := map[string]string{"app.kubernetes.io/name": "dubway"}
	for i := range f.networks {
		o := &f.networks[i]
		spec, _ := o.Body["spec"].(map[string]any)
		if o.Metadata.Namespace != f.mesh || !selects(spec, labels) {
			continue
		}
		if forbids(spec, "Ingress", "ingress", 15020) {
			all = append(all, Conflict{
				Subject: o.String(), Says: "it lets nobody reach port 15020 of Dubway's pods: no metrics",
				Fix: "allow ingress to 15020 from Prometheus",
			})
		}
		if forbids(spec, "Egress", "egress", 15010) && forbids(spec, "Egress", "egress", 15012) {
			all = append(all, Conflict{
				Subject: o.String(), Blocks: true, Says: "it keeps Dubway's pods from istiod (15010 or 15012)",
				Fix: "allow egress to istiod",
			})
		}
	}
	return all
}

// selects tells whether a NetworkPolicy is for pods with these labels.
func selects(spec map[string]any, labels map[string]string) bool {
	selector, _ := spec["podSelector"].(map[string]any)
	want, _ := selector["matchLabels"].(map[string]any)
	for key, value := range want {
		if labels[key] != fmt.Sprint(value) {
			return false
		}
	}
	return true
}

// forbids tells whether a NetworkPolicy isolates a direction and has no rule for a port,
// whoever is at the other end.
func forbids(spec map[string]any, direction, rules string, port int) bool {
	types, _ := spec["policyTypes"].([]any)
	all, given := spec[rules].([]any)
	if len(types) > 0 && !slices.Contains(types, any(direction)) || len(types) == 0 && direction == "Egress" && !given {
		return false
	}
	return !slices.ContainsFunc(all, func(rule any) bool {
		m, _ := rule.(map[string]any)
		list, _ := m["ports"].([]any)
		return len(list) == 0 || slices.ContainsFunc(list, func(p any) bool {
			of, _ := p.(map[string]any)
			from, numbered := of["port"].(float64)
			to, ranged := of["endPort"].(float64)
			if !ranged {
				to = from
			}
			return !numbered || int(from) <= port && port <= int(to)
		})
	})
}
