package manifest

import (
	"maps"
	"slices"
	"strings"
)

// apart are the labels that tell pods of one kind apart; those that begin so, too.
var apart = []string{
	"pod-template-hash", "controller-revision-hash", "pod-template-generation", "statefulset.kubernetes.io/pod-name",
	"apps.kubernetes.io/pod-index", "batch.kubernetes.io/", "job-name", "controller-uid", "dubway.io/", "security.istio.io/tlsMode",
	"service.istio.io/canonical-",
}

// chosen are the labels by which people know an application, the most precise first.
var chosen = [][]string{
	{"app.kubernetes.io/name", "app.kubernetes.io/instance"}, {"app.kubernetes.io/name"}, {"app"}, {"k8s-app"},
}

// Labels are a pod's that all pods of its kind have.
func Labels(p *Pod) map[string]string {
	all := maps.Clone(p.Metadata.Labels)
	maps.DeleteFunc(all, func(key, _ string) bool {
		return slices.ContainsFunc(apart, func(a string) bool {
			return key == a || (strings.HasSuffix(a, "/") || strings.HasSuffix(a, "-")) && strings.HasPrefix(key, a)
		})
	})
	return all
}

// Stable are the labels that a selector for the pod's application needs: those by which
// people know it, whatever its version, else all that all pods of its kind have.
func Stable(p *Pod) map[string]string {
	all := Labels(p)
	for _, keys := range chosen {
		some := map[string]string{}
		for _, key := range keys {
			if all[key] != "" {
				some[key] = all[key]
			}
		}
		if len(some) == len(keys) {
			return some
		}
	}
	return all
}

// Workload names what made a pod, as "shop/orders": of a Deployment's pods the Deployment,
// of those of nothing the pod.
func Workload(p *Pod) string {
	for _, o := range p.Metadata.Owners {
		if !o.Controller {
			continue
		}
		name := o.Name
		if hash := p.Metadata.Labels["pod-template-hash"]; o.Kind == "ReplicaSet" && hash != "" {
			name = strings.TrimSuffix(name, "-"+hash)
		}
		return p.Metadata.Namespace + "/" + name
	}
	return p.Name()
}
