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

// Ambient is Istio's data plane without sidecars, as a value of its label.
const Ambient = "ambient"

// Names by which others are known, as Istio and Kubernetes document them.
const (
	sidecarName   = "istio-proxy"             // the injected container, or native sidecar
	sidecarStatus = "sidecar.istio.io/status" // the injector's annotation
	ambientLabel  = "istio.io/dataplane-mode"
	ambientDone   = "ambient.istio.io/redirection" // istio-cni's annotation: "enabled"
	osLabel       = "kubernetes.io/os"             // of a node, and so of a node selector
	windows       = "windows"
)

// sandboxes are words in the usual names of RuntimeClasses whose containers do not call the
// node's kernel.
var sandboxes = []string{"gvisor", "runsc", "kata", "firecracker", "fc", "qemu", "clh"}

// Pod is what of a pod and of its namespace decides.
type Pod struct {
	Namespace       string
	NamespaceLabels map[string]string
	Labels          map[string]string
	Annotations     map[string]string
	HostNetwork     bool
	OS              string            // spec.os.name
	NodeSelector    map[string]string // spec.nodeSelector
	RuntimeClass    string            // spec.runtimeClassName; "" is the node's own
	Containers      []string          // names of all containers, those that init included
}

// Rules are what an installation adds to the labels.
type Rules struct {
	Excluded []string // namespaces that are never touched, whatever anybody asks for
}

// Verdict is what becomes of a pod.
type Verdict struct {
	// Wanted tells whether somebody asked for the pod, and By who: "pod label",
	// "namespace label", or why nobody did.
	Wanted bool
	By     string
	// Obstacle says why the pod cannot be captured; "" if it can be. It is known of pods
	// that nobody asked for too. Kind is of which kind that is.
	Obstacle string
	Kind     Kind
}

// Kind is a kind of obstacle.
type Kind string

// The kinds. NoObstacle is a pod that can be captured.
const (
	NoObstacle  Kind = ""
	HostNetwork Kind = "hostNetwork"
	Windows     Kind = "windows"
	Sidecar     Kind = "sidecar" // Istio's
	AmbientMesh Kind = "ambient"
	Sandbox     Kind = "sandbox" // a RuntimeClass of another kernel
)

// Enrolled tells whether the pod is to be enrolled.
func (v Verdict) Enrolled() bool { return v.Wanted && v.Obstacle == "" }

// Decide says what becomes of a pod.
func (r Rules) Decide(p *Pod) Verdict {
	if slices.Contains(r.Excluded, p.Namespace) {
		return Verdict{By: "namespace " + p.Namespace + " is excluded"}
	}
	v := Verdict{}
	v.Kind, v.Obstacle = obstacle(p)
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

// obstacle is the first reason.
func obstacle(p *Pod) (kind Kind, why string) {
	switch {
	case p.HostNetwork:
		return HostNetwork, "hostNetwork: the pod has no network namespace of its own"
	case p.OS == windows || p.NodeSelector[osLabel] == windows:
		return Windows, "it runs on Windows"
	case slices.Contains(p.Containers, sidecarName) || p.Annotations[sidecarStatus] != "":
		return Sidecar, "it has an Istio sidecar (" + sidecarName + "): restart it without one (label sidecar.istio.io/inject=false)"
	case isAmbient(p):
		return AmbientMesh, "it is part of Istio's ambient mesh: take the label " + ambientLabel + " away"
	case sandboxed(p.RuntimeClass):
		return Sandbox, fmt.Sprintf("RuntimeClass %s runs it on another kernel, where no program of the node sees its sockets",
			p.RuntimeClass)
	}
	return NoObstacle, ""
}

// isAmbient tells whether ztunnel has the pod: its own label goes before its namespace's.
func isAmbient(p *Pod) bool {
	mode := p.Labels[ambientLabel]
	if mode == "" {
		mode = p.NamespaceLabels[ambientLabel]
	}
	return mode == Ambient || p.Annotations[ambientDone] == Enabled
}

// sandboxed tells whether a RuntimeClass is called as one of a sandbox. One with another
// name shows only where it runs.
func sandboxed(class string) bool {
	words := strings.FieldsFunc(strings.ToLower(class), func(r rune) bool { return r == '-' || r == '.' || r == '_' })
	return slices.ContainsFunc(words, func(word string) bool { return slices.Contains(sandboxes, word) })
}
