package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dubway/dubway/cmd/dubwayctl/manifest"
	"github.com/dubway/dubway/cmd/dubwayctl/plan/policies"
	"github.com/dubway/dubway/internal/enrolment"
)

// asked reads what is needed of the cluster. Kinds that the cluster has not got are none.
func (p *Params) asked(ctx context.Context, a *asked) ([]manifest.Object, error) {
	known, err := p.resources(ctx)
	if err != nil {
		return nil, err
	}
	var everywhere []string
	for _, kind := range policies.Types() {
		if name, ok := known[kind]; ok {
			everywhere = append(everywhere, name)
		}
	}
	// Services of all namespaces, for routes lead to them; a node's pods are of one.
	calls := [][]string{
		{"get", "namespace", a.namespace, "-o", "json"},
		{"get", "pods,networkpolicies.networking.k8s.io", "-n", a.namespace, "-o", "json"},
		{"get", "networkpolicies.networking.k8s.io", "-n", a.mesh, "-o", "json"},
		{"get", strings.Join(append([]string{"services"}, everywhere...), ","), "-A", "-o", "json"},
	}
	var all []manifest.Object
	for _, args := range calls {
		text, err := p.Cluster.Output(ctx, args...)
		if err != nil {
			return nil, err
		}
		some, err := manifest.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// resources are the names by which kubectl knows kinds, by KIND.GROUP.
func (p *Params) resources(ctx context.Context) (map[string]string, error) {
	text, err := p.Cluster.Output(ctx, "api-resources", "--verbs=list", "--no-headers")
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	for line := range strings.Lines(string(text)) {
		// NAME [SHORTNAMES] APIVERSION NAMESPACED KIND
		words := strings.Fields(line)
		if len(words) < 4 {
			continue
		}
		kind := words[len(words)-1]
		if group, _, grouped := strings.Cut(words[len(words)-3], "/"); grouped {
			known[kind+"."+group] = words[0] + "." + group
		}
	}
	if len(known) == 0 {
		return nil, errors.New("kubectl api-resources lists nothing: may this user read the API?")
	}
	return known, nil
}

// found is what there is, taken apart.
type found struct {
	*asked

	labels, annotations map[string]string // of the namespace
	judgements          []Pod             // of all pods, by name
	world               *policies.World
	policies            []manifest.Object
	networks            []manifest.Object // NetworkPolicies, those of the mesh's namespace too
}

// sort takes objects apart. Those without a namespace, as manifests that are to be applied,
// are of the one that is planned for.
func sort(objects []manifest.Object, a *asked) (*found, error) {
	f := &found{asked: a, labels: map[string]string{}}
	f.world = &policies.World{Namespace: a.namespace, Root: a.root, Domain: a.domain, Numbers: a.numbers}
	var pods []*manifest.Pod
	var templates []*manifest.Pod
	for i := range objects {
		o := &objects[i]
		if o.Type() == "Namespace" {
			if o.Metadata.Name == a.namespace {
				f.labels, f.annotations = o.Metadata.Labels, o.Metadata.Annotations
			}
			continue
		}
		if o.Metadata.Namespace == "" {
			o.Metadata.Namespace = a.namespace
		}
		if err := f.take(o, &pods, &templates); err != nil {
			return nil, err
		}
	}
	if len(pods) == 0 {
		pods = templates // manifests that are not applied yet
	}
	slices.SortFunc(pods, func(a, b *manifest.Pod) int { return strings.Compare(a.Name(), b.Name()) })
	slices.SortFunc(f.world.Services, func(a, b *manifest.Service) int { return strings.Compare(a.Name(), b.Name()) })
	for _, p := range pods {
		f.pod(p)
	}
	f.policies = slices.DeleteFunc(f.policies, func(o manifest.Object) bool { return !f.concerns(&o) })
	slices.SortFunc(f.policies, func(a, b manifest.Object) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Metadata.Namespace, b.Metadata.Namespace),
			strings.Compare(a.Metadata.Name, b.Metadata.Name))
	})
	return f, nil
}

// take puts one object where it belongs.
func (f *found) take(o *manifest.Object, pods, templates *[]*manifest.Pod) error {
	switch o.Type() {
	case "Pod":
		p := new(manifest.Pod)
		if err := o.Into(p); err != nil {
			return err
		}
		p.Metadata = o.Metadata
		if p.Metadata.Namespace == f.namespace {
			*pods = append(*pods, p)
		}
	case "Deployment.apps", "StatefulSet.apps", "DaemonSet.apps":
		if o.Metadata.Namespace != f.namespace {
			return nil
		}
		p, err := template(o)
		if err != nil {
			return err
		}
		*templates = append(*templates, p)
	case "Service":
		s := new(manifest.Service)
		if err := o.Into(s); err != nil {
			return err
		}
		s.Metadata = o.Metadata
		f.world.Services = append(f.world.Services, s)
	case "NetworkPolicy.networking.k8s.io":
		f.networks = append(f.networks, *o)
	case "ServiceEntry.networking.istio.io":
		e := new(policies.Entry)
		if err := o.Into(e); err != nil {
			return err
		}
		e.Metadata = o.Metadata
		f.world.Entries = append(f.world.Entries, e)
		f.policies = append(f.policies, *o)
	default:
		f.policies = append(f.policies, *o)
	}
	return nil
}

// template makes of a workload the pod that it would make.
func template(o *manifest.Object) (*manifest.Pod, error) {
	var w struct {
		Spec struct {
			Template manifest.Pod `json:"template"`
		} `json:"spec"`
	}
	if err := o.Into(&w); err != nil {
		return nil, err
	}
	p := &w.Spec.Template
	p.Metadata.Namespace, p.Metadata.Name = o.Metadata.Namespace, o.Metadata.Name+"-*"
	return p, nil
}

// pod decides about a pod.
func (f *found) pod(p *manifest.Pod) {
	labels := f.labels
	if !f.asIs {
		labels = map[string]string{enrolment.Label: enrolment.Enabled}
		for key, value := range f.labels {
			if key != enrolment.Label {
				labels[key] = value
			}
		}
	}
	rules := enrolment.Rules{Excluded: append(slices.Clone(f.excluded), f.mesh)}
	names := []string{}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		names = append(names, c.Name)
	}
	v := rules.Decide(&enrolment.Pod{
		Namespace: p.Metadata.Namespace, NamespaceLabels: labels, Labels: p.Metadata.Labels, Annotations: p.Metadata.Annotations,
		HostNetwork: p.Spec.HostNetwork, OS: p.Spec.OS.Name, NodeSelector: p.Spec.NodeSelector, RuntimeClass: p.Spec.RuntimeClassName,
		Containers: names,
	})
	j := Pod{Name: p.Name(), Node: p.Spec.NodeName, By: v.By, Reason: v.Obstacle, Ports: p.Ports()}
	switch {
	case p.Finished():
		j.State, j.Reason = finished, "it has ended: its address may be another pod's"
	case v.Enrolled():
		j.State = steered
		f.world.Pods = append(f.world.Pods, p)
	case v.Wanted:
		j.State = excluded
		f.world.Outside++
	default:
		j.State = outside
		f.world.Outside++
	}
	f.judgements = append(f.judgements, j)
}

// concerns tells whether a policy is about the namespace: it is there, or in Istio's root
// namespace, or routes to a host of it.
func (f *found) concerns(o *manifest.Object) bool {
	if o.Metadata.Namespace == f.namespace || o.Metadata.Namespace == f.root {
		return true
	}
	spec, _ := o.Body["spec"].(map[string]any)
	var hosts []string
	switch o.Type() {
	case "VirtualService.networking.istio.io":
		all, _ := spec["hosts"].([]any)
		for _, host := range all {
			hosts = append(hosts, fmt.Sprint(host))
		}
	case "DestinationRule.networking.istio.io":
		hosts = append(hosts, fmt.Sprint(spec["host"]))
	}
	return slices.ContainsFunc(hosts, func(host string) bool {
		return strings.HasSuffix(host, "."+f.namespace) || strings.HasSuffix(host, "."+f.namespace+".svc") ||
			strings.HasSuffix(host, "."+f.namespace+".svc."+f.domain)
	})
}
