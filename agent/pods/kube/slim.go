package kube

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dubway/dubway/agent/pods"
)

// slim is what stays in memory of a pod or a namespace: what the rules read. A node has
// its own pods alone, but all namespaces.
func slim(object any) (any, error) {
	switch o := object.(type) {
	case *corev1.Pod:
		return slimPod(o), nil
	case *corev1.Namespace:
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion, Labels: o.Labels,
		}}, nil
	}
	return object, nil
}

func slimPod(o *corev1.Pod) *corev1.Pod {
	annotations := maps.Clone(o.Annotations)
	maps.DeleteFunc(annotations, func(name, _ string) bool {
		return !strings.HasPrefix(name, pods.Prefix) && !strings.Contains(name, "istio.io/") && name != corev1.MirrorPodAnnotationKey
	})
	for name, value := range annotations {
		if !strings.HasPrefix(name, pods.Prefix) && len(value) > 64 {
			annotations[name] = value[:64] // that it is there counts
		}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: o.Name, Namespace: o.Namespace, UID: o.UID, ResourceVersion: o.ResourceVersion,
			Labels: o.Labels, Annotations: annotations,
		},
		Spec: corev1.PodSpec{
			NodeName: o.Spec.NodeName, HostNetwork: o.Spec.HostNetwork, ServiceAccountName: o.Spec.ServiceAccountName,
			RuntimeClassName: o.Spec.RuntimeClassName, OS: o.Spec.OS, NodeSelector: o.Spec.NodeSelector,
			Containers: slimContainers(o.Spec.Containers), InitContainers: slimContainers(o.Spec.InitContainers),
		},
		Status: corev1.PodStatus{
			Phase: o.Status.Phase, PodIP: o.Status.PodIP, PodIPs: o.Status.PodIPs, Conditions: o.Status.Conditions,
		},
	}
}

func slimContainers(all []corev1.Container) []corev1.Container {
	kept := make([]corev1.Container, len(all))
	for i := range all {
		kept[i] = corev1.Container{Name: all[i].Name, Ports: all[i].Ports, RestartPolicy: all[i].RestartPolicy}
	}
	return kept
}
