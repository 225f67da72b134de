package kube

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dubway/dubway/internal/enrolment"
)

// space is a namespace with labels, NAME VALUE in turn.
func space(labels ...string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: pairs(labels)}}
}

func pairs(list []string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(list); i += 2 {
		m[list[i]] = list[i+1]
	}
	return m
}

func labelled(labels ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = pairs(labels) }
}

func TestRules(t *testing.T) {
	always, class, gvisor := corev1.ContainerRestartPolicyAlways, "nvidia", "kata-qemu"
	in, out := space(enrolment.Label, "enabled"), space()
	for name, c := range map[string]struct {
		change    func(*corev1.Pod)
		space     *corev1.Namespace
		wanted    bool
		undecided bool
		excluded  string // a part of the reason
	}{
		"nobody asked":          {nil, out, false, false, ""},
		"the namespace asks":    {nil, in, true, false, ""},
		"the pod declines":      {labelled(enrolment.Label, "disabled"), in, false, false, ""},
		"the pod asks":          {labelled(enrolment.Label, "enabled"), out, true, false, ""},
		"another word":          {labelled(enrolment.Label, "maybe"), in, true, false, ""},
		"unknown namespace":     {nil, nil, false, true, ""},
		"asks from nowhere":     {labelled(enrolment.Label, "enabled"), nil, true, false, ""},
		"host network":          {func(p *corev1.Pod) { p.Spec.HostNetwork = true }, in, true, false, "host's network"},
		"host network, unasked": {func(p *corev1.Pod) { p.Spec.HostNetwork = true }, out, false, false, ""},
		"windows":               {func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, in, true, false, "Windows"},
		"windows node":          {func(p *corev1.Pod) { p.Spec.NodeSelector = pairs([]string{"kubernetes.io/os", "windows"}) }, in, true, false, "Windows"},
		"sidecar": {func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "istio-proxy"})
		}, in, true, false, "sidecar"},
		"native sidecar": {func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "istio-proxy", RestartPolicy: &always}}
		}, in, true, false, "sidecar"},
		"ambient":                {nil, space(enrolment.Label, "enabled", "istio.io/dataplane-mode", "ambient"), true, false, "ambient"},
		"not ambient by its pod": {labelled("istio.io/dataplane-mode", "none"), space(enrolment.Label, "enabled", "istio.io/dataplane-mode", "ambient"), true, false, ""},
		"another kernel":         {func(p *corev1.Pod) { p.Spec.RuntimeClassName = &gvisor }, in, true, false, `runtime class "kata-qemu"`},
		"another runtime":        {func(p *corev1.Pod) { p.Spec.RuntimeClassName = &class }, in, true, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "shop", UID: "u"}}
			if c.change != nil {
				c.change(p)
			}
			e := describe(slimPod(p), c.space)
			if e.Wanted != c.wanted || e.Undecided != c.undecided ||
				(c.excluded == "") != (e.Pod.Excluded == "") || !strings.Contains(e.Pod.Excluded, c.excluded) {
				t.Errorf("wanted %t, undecided %t, excluded %q", e.Wanted, e.Undecided, e.Pod.Excluded)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "a", Namespace: "shop", UID: "u", Labels: map[string]string{"app": "a"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}},
			Annotations: map[string]string{portsName: "20881, 20880", "dubway.io/mode": "observe", "large": strings.Repeat("x", 9999)},
		},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "app", Env: []corev1.EnvVar{{Name: "SECRET"}}, Ports: []corev1.ContainerPort{
				{ContainerPort: 20880}, {ContainerPort: 53, Protocol: corev1.ProtocolUDP}, {ContainerPort: 8080, Protocol: corev1.ProtocolTCP},
			}}},
			InitContainers: []corev1.Container{
				{Name: "once", Ports: []corev1.ContainerPort{{ContainerPort: 1}}},
				{Name: "beside", RestartPolicy: &always, Ports: []corev1.ContainerPort{{ContainerPort: 9090}}},
			},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}, {IP: "bad"}}},
	}
	thin := slimPod(p)
	if thin.ManagedFields != nil || thin.Spec.Containers[0].Env != nil || thin.Annotations["large"] != "" {
		t.Errorf("kept in memory: %+v", thin)
	}
	e := describe(thin, space(enrolment.Label, "enabled"))
	if want := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}; !slices.Equal(e.Pod.Addresses, want) {
		t.Errorf("addresses: %v", e.Pod.Addresses)
	}
	if want := []uint16{8080, 9090, 20880, 20881}; !slices.Equal(e.Pod.Ports, want) {
		t.Errorf("ports: %v", e.Pod.Ports)
	}
	if e.Pod.ServiceAccount != "default" || e.HostUID != "u" || e.Finished || e.Problem != "" || e.Pod.Annotations["dubway.io/mode"] != "observe" {
		t.Errorf("%+v", e)
	}

	// What the mesh writes itself is no change of the pod.
	marked := p.DeepCopy()
	marked.Labels[tlsLabel], marked.Annotations[tlsAnnotation] = tlsIstio, tlsSet
	marked.Status.Conditions = []corev1.PodCondition{{Type: ConditionType, Status: corev1.ConditionTrue, Reason: "Enrolled", Message: "m"}}
	after := describe(slimPod(marked), space(enrolment.Label, "enabled"))
	if !reflect.DeepEqual(after.Pod, e.Pod) || !after.Marked || e.Marked || *after.Condition != (Condition{true, "Enrolled", "m"}) {
		t.Errorf("after the mark: %+v, before: %+v", after, e)
	}
	delete(marked.Annotations, tlsAnnotation)
	if foreign := describe(slimPod(marked), space(enrolment.Label, "enabled")); foreign.Marked || !foreign.Foreign {
		t.Errorf("somebody else's label: %+v", foreign)
	}

	static := p.DeepCopy()
	static.Annotations[corev1.MirrorPodAnnotationKey] = "0123456789abcdef0123456789abcdef"
	if s := describe(slimPod(static), nil); s.HostUID != "0123456789abcdef0123456789abcdef" || s.Pod.UID != "u" {
		t.Errorf("a static pod: %+v", s)
	}
	for _, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
		done := p.DeepCopy()
		done.Status.Phase = phase
		if !describe(slimPod(done), nil).Finished {
			t.Errorf("a pod in phase %s has an address", phase)
		}
	}
	wrong := p.DeepCopy()
	wrong.Annotations[portsName] = "20882,none"
	if e := describe(slimPod(wrong), nil); !strings.Contains(e.Problem, `"20882,none" is not a list of ports`) || !slices.Contains(e.Pod.Ports, 20882) {
		t.Errorf("a wrong annotation: %q, ports %v", e.Problem, e.Pod.Ports)
	}
}

func TestUntouched(t *testing.T) {
	a := &API{opts: Options{Exclude: []string{"kube-system"}, Own: Ref{Namespace: "mesh-system"}}}
	for namespace, want := range map[string]bool{"kube-system": true, "mesh-system": true, "shop": false, "": false} {
		if a.Untouched(namespace) != want {
			t.Errorf("%q: %t", namespace, !want)
		}
	}
	if (&API{}).Untouched("") {
		t.Error("outside of a cluster, the namespace without a name is the agent's own")
	}
}
