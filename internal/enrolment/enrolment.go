// Package enrolment decides whether a pod is to be part of the mesh: what its labels and
// those of its namespace ask for, and what makes it impossible. It is a pure function of
// what the API server says of both; it asks nobody and changes nothing.
package enrolment

import (
	"fmt"
	"slices"
	"strings"
)

// The label that asks, of a namespace or of a pod, and its values. A pod's own goes before
// its namespace's; any other value asks for nothing.
const (
	Label    = "dubway.io/mesh"
	Enabled  = "enabled"
	Disabled = "disabled" // a pod's alone
)

// Names by which other meshes are known, as Istio documents them.
const (
	sidecarName   = "istio-proxy"                  // the injected container, or native sidecar
	ambientLabel  = "istio.io/dataplane-mode"      // "none" is a pod that stays outside
	sidecarStatus = "sidecar.istio.io/status"      // the injector's annotation
	hostLinux     = "linux"                        // the operating system that a pod may name
	ambientDone   = "ambient.istio.io/redirection" // istio-cni's annotation: "enabled"
)

// Pod is what of a pod and of its namespace decides.
type Pod struct {
	Namespace       string
	NamespaceLabels map[string]string
	Labels          map[string]string
	Annotations     map[string]string
	HostNetwork     bool
	OS              string   // spec.os.name; "" is Linux
	RuntimeClass    string   // spec.runtimeClassName; "" is the node's own
	Containers      []string // names of all containers, those that init included
}

// Rules are what an installation adds to the labels.
type Rules struct {
	// Excluded are namespaces that are never touched, whatever anybody asks for.
	Excluded []string
	// Runtimes are RuntimeClasses whose containers run in the node's own kernel, such as
	// nvidia's; any other is taken for a sandbox with a kernel of its own.
	Runtimes []string
}

// Verdict is what becomes of a pod.
type Verdict struct {
	// Wanted tells whether somebody asked for the pod, and By who: "pod label",
	// "namespace label", or why nobody did.
	Wanted bool
	By     string
	// Obstacle says why the pod cannot be captured; "" if it can be. It is known of pods
	// that nobody asked for too.
	Obstacle string
}

// Enrolled tells whether the pod is to be enrolled.
func (v Verdict) Enrolled() bool { return v.Wanted && v.Obstacle == "" }

// Decide says what becomes of a pod.
func (r Rules) Decide(p *Pod) Verdict {
	if slices.Contains(r.Excluded, p.Namespace) {
		return Verdict{By: "namespace " + p.Namespace + " is excluded"}
	}
	v := Verdict{Obstacle: r.obstacle(p)}
	switch own := p.Labels[Label]; own {
	case Enabled:
		v.Wanted, v.By = true, "pod label"
	case Disabled:
		v.By = "pod label " + Label + "=" + Disabled
	default:
		v.Wanted = p.NamespaceLabels[Label] == Enabled
		v.By = "namespace label"
		if !v.Wanted {
			v.By = "no label " + Label + "=" + Enabled
		}
	}
	return v
}

// obstacle is the first reason, in the order in which an operator would remove them.
func (r Rules) obstacle(p *Pod) string {
	switch {
	case p.OS != "" && !strings.EqualFold(p.OS, hostLinux):
		return "operating system " + p.OS + ": only Linux pods can be captured"
	case p.HostNetwork:
		return "hostNetwork: the pod has no network namespace of its own"
	case slices.Contains(p.Containers, sidecarName) || p.Annotations[sidecarStatus] != "":
		return "it has an Istio sidecar (" + sidecarName + "): two proxies would handle each call; remove the injection label and restart it"
	case ambient(p):
		return "it is captured by Istio ambient (" + ambientLabel + "): remove that label from the namespace or set none on the pod"
	case p.RuntimeClass != "" && !slices.Contains(r.Runtimes, p.RuntimeClass):
		return fmt.Sprintf("RuntimeClass %s: its containers may run in another kernel, where no program of the node sees their sockets", p.RuntimeClass)
	}
	return ""
}

// ambient tells whether another data plane without sidecars has the pod: a pod's own label
// goes before its namespace's.
func ambient(p *Pod) bool {
	if p.Annotations[ambientDone] == "enabled" {
		return true
	}
	mode, own := p.Labels[ambientLabel]
	if !own {
		mode = p.NamespaceLabels[ambientLabel]
	}
	return mode != "" && mode != "none"
}
