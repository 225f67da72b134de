package enrolment

import (
	"strings"
	"testing"
)

func TestDecide(t *testing.T) {
	enabled := map[string]string{Label: Enabled}
	tests := []struct {
		name     string
		pod      Pod
		wanted   bool
		by       string
		obstacle string // a part of it; "" for none
	}{
		{"nobody asked", Pod{Namespace: "shop"}, false, "no label", ""},
		{"by its namespace", Pod{NamespaceLabels: enabled}, true, "namespace label", ""},
		{"by its own label", Pod{Labels: enabled}, true, "pod label", ""},
		{"its own label goes first", Pod{NamespaceLabels: enabled, Labels: map[string]string{Label: Disabled}}, false, "pod label dubway.io/mesh=disabled", ""},
		{"a value that asks for nothing", Pod{NamespaceLabels: map[string]string{Label: "true"}}, false, "no label", ""},
		{"another value of its own", Pod{NamespaceLabels: enabled, Labels: map[string]string{Label: "yes"}}, true, "namespace label", ""},
		{"an excluded namespace", Pod{Namespace: "kube-system", Labels: enabled, HostNetwork: true}, false, "kube-system is excluded", ""},
		{"hostNetwork", Pod{Labels: enabled, HostNetwork: true}, true, "pod label", "hostNetwork"},
		{"hostNetwork that nobody asked for", Pod{HostNetwork: true}, false, "no label", "hostNetwork"},
		{"a sidecar", Pod{Labels: enabled, Containers: []string{"app", "istio-proxy"}}, true, "pod label", "Istio sidecar"},
		{"injected, by its annotation", Pod{Labels: enabled, Annotations: map[string]string{"sidecar.istio.io/status": "{}"}}, true, "pod label", "Istio sidecar"},
		{"ambient, by its namespace", Pod{Labels: enabled, NamespaceLabels: map[string]string{"istio.io/dataplane-mode": "ambient"}}, true, "pod label", "ambient"},
		{"ambient, but not this pod", Pod{
			Labels: map[string]string{Label: Enabled, "istio.io/dataplane-mode": "none"}, NamespaceLabels: map[string]string{"istio.io/dataplane-mode": "ambient"},
		}, true, "pod label", ""},
		{"another data plane", Pod{Labels: enabled, NamespaceLabels: map[string]string{"istio.io/dataplane-mode": "Kmesh"}}, true, "pod label", ""},
		{"ambient, redirected", Pod{Labels: enabled, Annotations: map[string]string{"ambient.istio.io/redirection": "enabled"}}, true, "pod label", "ambient"},
		{"a sandbox", Pod{Labels: enabled, RuntimeClass: "gvisor"}, true, "pod label", "RuntimeClass gvisor"},
		{"a sandbox, by a word", Pod{Labels: enabled, RuntimeClass: "kata-qemu"}, true, "pod label", "RuntimeClass kata-qemu"},
		{"a runtime of the node's kernel", Pod{Labels: enabled, RuntimeClass: "nvidia"}, true, "pod label", ""},
		{"Windows", Pod{Labels: enabled, OS: "windows"}, true, "pod label", "Windows"},
		{"Windows, by its node", Pod{Labels: enabled, NodeSelector: map[string]string{"kubernetes.io/os": "windows"}}, true, "pod label", "Windows"},
		{"Linux by name", Pod{Labels: enabled, OS: "linux"}, true, "pod label", ""},
	}
	rules := Rules{Excluded: []string{"kube-system", "dubway-system"}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := rules.Decide(&test.pod)
			if v.Wanted != test.wanted || !strings.Contains(v.By, test.by) {
				t.Errorf("wanted %v by %q, want %v by %q", v.Wanted, v.By, test.wanted, test.by)
			}
			if (v.Obstacle == "") != (test.obstacle == "") || !strings.Contains(v.Obstacle, test.obstacle) {
				t.Errorf("obstacle %q, want %q", v.Obstacle, test.obstacle)
			}
			if want := test.wanted && test.obstacle == ""; v.Enrolled() != want {
				t.Errorf("enrolled %v, want %v", v.Enrolled(), want)
			}
		})
	}
}
