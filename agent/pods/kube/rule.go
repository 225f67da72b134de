package kube

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/internal/enrolment"
)

// portsName is the annotation of more ports than containers declare.
const portsName = "dubway.io/inbound-ports"

// The label and the annotation of docs/mtls.md, "Who says that a pod speaks TLS".
const (
	tlsLabel      = "security.istio.io/tlsMode"
	tlsIstio      = "istio"
	tlsAnnotation = "dubway.io/tls-mode"
	tlsSet        = "set"
)

// ConditionType is the pod condition in which the mesh reports.
const ConditionType = "dubway.io/enrolled"

// Entry is what the API server says of a pod of the node.
type Entry struct {
	// Pod is what enrolment is to know of it; without Netns and Cgroup, which are not the
	// API server's to know, and with the declared ports alone.
	Pod pods.Pod
	// HostUID is what the kubelet calls the pod on the node: for a static pod not the
	// UID that its mirror in the API has.
	HostUID string
	Wanted  bool // by the labels
	// Undecided: its namespace is not known, and it has no label of its own.
	Undecided bool
	// Finished pods own no address, although their statuses have one.
	Finished  bool
	Condition *Condition // that is reported now; nil for none
	// Marked is the label that says that the pod speaks TLS, if we set it; Foreign if
	// somebody else did.
	Marked, Foreign bool
	// Problem is what cannot be used of it; "" for nothing.
	Problem string
}

// Ref names the pod.
func (e *Entry) Ref() Ref { return Ref{e.Pod.Namespace, e.Pod.Name, e.Pod.UID} }

// describe applies the rules to a pod and its namespace, which may be unknown (nil).
func describe(pod *corev1.Pod, space *corev1.Namespace) Entry {
	e := Entry{
		Pod: pods.Pod{
			UID: string(pod.UID), Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels,
			ServiceAccount: cmp.Or(pod.Spec.ServiceAccountName, "default"), Addresses: addresses(pod),
		},
		HostUID:  cmp.Or(pod.Annotations[corev1.MirrorPodAnnotationKey], string(pod.UID)),
		Finished: pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed,
		Marked:   pod.Labels[tlsLabel] != "" && pod.Annotations[tlsAnnotation] == tlsSet,
		Foreign:  pod.Labels[tlsLabel] != "" && pod.Annotations[tlsAnnotation] != tlsSet,
	}
	asked := question(pod, space)
	verdict := enrolment.Rules{}.Decide(asked)
	own := asked.Labels[enrolment.Label]
	e.Wanted = verdict.Wanted
	e.Undecided = space == nil && own != enrolment.Enabled && own != enrolment.Disabled
	if e.Wanted {
		e.Pod.Excluded = excluded(verdict.Kind, asked.RuntimeClass)
	}
	if e.Wanted && !e.Foreign {
		// The proxy tells the control plane of the label from the beginning: that the pod
		// gets it later is no change for it (docs/mtls.md).
		e.Pod.Labels = make(map[string]string, len(pod.Labels)+1)
		maps.Copy(e.Pod.Labels, pod.Labels)
		e.Pod.Labels[tlsLabel] = tlsIstio
	}
	var problems []string
	var err error
	if e.Pod.Ports, err = ports(pod); err != nil {
		problems = append(problems, err.Error())
	}
	annotations := maps.Clone(pod.Annotations)
	delete(annotations, tlsAnnotation)
	if e.Pod.Annotations, err = pods.Annotations(annotations); err != nil {
		problems = append(problems, err.Error())
	}
	e.Problem = strings.Join(problems, "; ")
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == ConditionType {
			e.Condition = &Condition{Enrolled: c.Status == corev1.ConditionTrue, Reason: c.Reason, Message: c.Message}
		}
	}
	return e
}

// question is what decides about a pod; its namespace may be unknown (nil).
func question(pod *corev1.Pod, space *corev1.Namespace) *enrolment.Pod {
	spec := &pod.Spec
	asked := &enrolment.Pod{
		Namespace: pod.Namespace, Labels: pod.Labels, Annotations: pod.Annotations,
		HostNetwork: spec.HostNetwork, NodeSelector: spec.NodeSelector,
	}
	if space != nil {
		asked.NamespaceLabels = space.Labels
	}
	if spec.OS != nil {
		asked.OS = string(spec.OS.Name)
	}
	if spec.RuntimeClassName != nil {
		asked.RuntimeClass = *spec.RuntimeClassName
	}
	for _, containers := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i := range containers {
			asked.Containers = append(asked.Containers, containers[i].Name)
		}
	}
	return asked
}

// excluded says why a wanted pod cannot be captured, "" if it can be.
func excluded(kind enrolment.Kind, runtimeClass string) string {
	switch kind {
	case enrolment.HostNetwork:
		return "the pod uses the host's network"
	case enrolment.Windows:
		return "the pod runs on Windows"
	case enrolment.Sidecar:
		return "the pod has an Istio sidecar; fix: restart it without one (label sidecar.istio.io/inject: \"false\")"
	case enrolment.AmbientMesh:
		return "the pod is part of Istio's ambient mesh; fix: take the label istio.io/dataplane-mode away"
	case enrolment.Sandbox:
		return fmt.Sprintf("its runtime class %q runs it on another kernel", runtimeClass)
	case enrolment.NoObstacle:
	}
	return ""
}

// ports are the declared TCP ports of a pod's containers and those of the annotation.
func ports(pod *corev1.Pod) (list []uint16, err error) {
	containers := slices.Clone(pod.Spec.Containers)
	for i := range pod.Spec.InitContainers {
		if p := pod.Spec.InitContainers[i].RestartPolicy; p != nil && *p == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, pod.Spec.InitContainers[i])
		}
	}
	for i := range containers {
		for _, port := range containers[i].Ports {
			if port.Protocol == "" || port.Protocol == corev1.ProtocolTCP {
				list = append(list, uint16(port.ContainerPort))
			}
		}
	}
	for text := range strings.SplitSeq(pod.Annotations[portsName], ",") {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		port, parseErr := strconv.ParseUint(text, 10, 16)
		if parseErr != nil || port == 0 {
			err = fmt.Errorf("annotation %s: %.64q is not a list of ports", portsName, pod.Annotations[portsName])
			continue
		}
		list = append(list, uint16(port))
	}
	slices.Sort(list)
	return slices.Compact(list), err
}

// addresses are those of a pod's status that a peer can reach.
func addresses(pod *corev1.Pod) (list []netip.Addr) {
	texts := []string{pod.Status.PodIP}
	for _, ip := range pod.Status.PodIPs {
		texts = append(texts, ip.IP)
	}
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if a = a.Unmap(); err == nil && a.IsGlobalUnicast() && a.Zone() == "" && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}
