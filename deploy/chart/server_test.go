//go:build e2e

package chart_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// operators are groups of kinds that other people's operators define: an API server alone does
// not know them.
var operators = []string{"monitoring.coreos.com/v1", "networking.istio.io/v1"}

// TestServer installs the chart on a real API server, has that look at what each scenario renders,
// at what the agent's token may and may not do, and removes it again.
func TestServer(t *testing.T) {
	s := startServer(t)
	install := func(args ...string) {
		t.Helper()
		if said, err := helm(t.Context(), t, append(args, "--kubeconfig", s.file("kubeconfig"), "--namespace", namespace)...); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
	}
	install("install", "dubway", ".", "--create-namespace", "--values", "testdata/files.values.yaml")
	s.create(t, "/api/v1/namespaces/default/serviceaccounts", `{"metadata": {"name": "default"}}`)
	t.Run("dry run", s.dryRun)
	t.Run("helm's dry run", s.notes)
	t.Run("agent", s.agent)
	t.Run("guides", s.guides)
	install("upgrade", "dubway", ".", "--set", "dashboards.enabled=true,metrics.service.enabled=true,metrics.networkPolicy.enabled=true")
	// There are no nodes, and so no Job ends.
	install("uninstall", "dubway", "--no-hooks")
	s.empty(t)
}

// dryRun has the server take every object as if it were applied, and refuse fields that it does
// not know.
func (s *server) dryRun(t *testing.T) {
	for name, values := range scenarios(t) {
		text, err := template(t, "--values", values, "--set", "dashboards.enabled=true")
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		for _, o := range objects(t, text) {
			if slices.Contains(operators, o.APIVersion) {
				continue
			}
			_, err := s.do(t.Context(), ask{
				method: http.MethodPatch, kind: "application/apply-patch+yaml", body: o.text,
				path: o.path() + "?dryRun=All&fieldManager=chart&force=true&fieldValidation=Strict",
			})
			if err != nil {
				t.Errorf("%s: %s %s: %v", name, o.Kind, o.Metadata.Name, err)
			}
		}
	}
}

// notes has Helm itself do all of an installation but the last step, for each scenario, and reads
// what it tells whoever installs.
func (s *server) notes(t *testing.T) {
	wants := map[string][]string{
		"files":    {"helm upgrade other CHART", "helm test other", "new pods of meshed namespaces wait"},
		"istiod":   {"istio-system/ztunnel,dubway-system/other-dubway", "istiod.istio-system.svc:15012"},
		"plain":    {"Nobody gets a", "(cni.mode=open)"},
		"minimal":  {"the ConfigMap routes", "bind the roles of mesh-agent yourself", "it sets no label", "new ones some\n   moments after they start"},
		"hardened": {"rollout status daemonset/other-dubway"},
		"observed": {"rollout status daemonset/other-dubway"},
	}
	for name, values := range scenarios(t) {
		said, err := helm(t.Context(), t, "install", "other", ".", "--dry-run=server", "--values", values,
			"--set", "metrics.podMonitor.enabled=false,metrics.serviceMonitor.enabled=false",
			"--kubeconfig", s.file("kubeconfig"), "--namespace", namespace)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, said)
			continue
		}
		_, notes, _ := strings.Cut(said, "\nNOTES:\n")
		if len(wants[name]) == 0 {
			t.Errorf("nothing is wanted of the notes of %s", name)
		}
		for _, want := range wants[name] {
			if !strings.Contains(notes, want) {
				t.Errorf("%s: the notes lack %q:\n%s", name, want, notes)
			}
		}
	}
}

// path is where the server has an object.
func (o *object) path() string {
	path := "/apis/" + o.APIVersion
	if !strings.Contains(o.APIVersion, "/") {
		path = "/api/" + o.APIVersion
	}
	if o.Metadata.Namespace != "" {
		path += "/namespaces/" + o.Metadata.Namespace
	}
	kinds := strings.ToLower(o.Kind) + "s"
	if before, found := strings.CutSuffix(kinds, "ys"); found {
		kinds = before + "ies"
	}
	return path + "/" + kinds + "/" + o.Metadata.Name
}

// Patches of pods by the agent of node n1.
const (
	merge = "application/merge-patch+json"
	pods  = "/api/v1/namespaces/shop/pods/"
	mine  = pods + "here"  // of n1
	other = pods + "there" // of n2
	own   = "/api/v1/namespaces/" + namespace + "/pods/agent-n1"
	label = `{"metadata": {"labels": {"security.istio.io/tlsMode": "istio"}, "annotations": {"dubway.io/tls-mode": "set"}}}`
	// As the agent writes conditions: only what it says is changed.
	strategic = "?fieldManager=dubway-agent"
	enrol     = `{"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "dubway.io/enrolled", "status": "True", "reason": "Enrolled", "message": "all is well"}]}}`
)

// agent asks with real tokens, that are bound to pods and so to nodes, what an agent asks and what
// one asks that was taken over.
func (s *server) agent(t *testing.T) {
	bound := s.cluster(t)
	tests := []struct {
		name, method, path, body string
		want                     string // of the refusal; "" for none
	}{
		{"the label and its annotation", http.MethodPatch, mine, label, ""},
		{"again", http.MethodPatch, mine, label, ""},
		{"taking them away", http.MethodPatch, mine, `{"metadata": {"labels": {"security.istio.io/tlsMode": null}, "annotations": {"dubway.io/tls-mode": null}}}`, ""},
		{"the condition", http.MethodPatch, mine + "/status", enrol, ""},
		{"the condition, changed", http.MethodPatch, mine + "/status", strings.ReplaceAll(enrol, `"True", "reason"`, `"False", "reason"`), ""},
		{"the condition alone", http.MethodPatch, mine + "/status" + strategic, `{"status": {"conditions": [{"type": "dubway.io/enrolled", "status": "True", "reason": "Enrolled", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}`, ""},
		{"the condition, taken away", http.MethodPatch, mine + "/status" + strategic, `{"status": {"conditions": [{"type": "dubway.io/enrolled", "$patch": "delete"}]}}`, ""},
		{"that it has left", http.MethodPatch, own, `{"metadata": {"annotations": {"dubway.io/left": "true"}}}`, ""},
		{"reading pods", http.MethodGet, "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", "", ""},
		{"reading namespaces", http.MethodGet, "/api/v1/namespaces", "", ""},
		{"reading its node", http.MethodGet, "/api/v1/nodes/n1", "", ""},
		{"reading its DaemonSet", http.MethodGet, "/apis/apps/v1/namespaces/" + namespace + "/daemonsets/dubway", "", ""},

		{"a pod of another node", http.MethodPatch, other, label, "pods of its own node alone"},
		{"its status", http.MethodPatch, other + "/status", enrol, "pods of its own node alone"},
		{"another label", http.MethodPatch, mine, `{"metadata": {"labels": {"app": "mine"}}}`, "and no other"},
		{"a new label", http.MethodPatch, mine, `{"metadata": {"labels": {"x": "y"}}}`, "and no other"},
		{"a label less", http.MethodPatch, mine, `{"metadata": {"labels": {"app": null}}}`, "and no other"},
		{"another value of the label", http.MethodPatch, mine, `{"metadata": {"labels": {"security.istio.io/tlsMode": "disabled"}}}`, "and no other"},
		{"another annotation", http.MethodPatch, mine, `{"metadata": {"annotations": {"x": "y"}}}`, "and no other"},
		{"an annotation less", http.MethodPatch, mine, `{"metadata": {"annotations": {"example.org/a": null}}}`, "and no other"},
		{"a mode", http.MethodPatch, mine, `{"metadata": {"annotations": {"dubway.io/mode": "off"}}}`, "and no other"},
		{"that somebody else has left", http.MethodPatch, mine, `{"metadata": {"annotations": {"dubway.io/left": "true"}}}`, "and no other"},
		{"what the agent tries to see the policy", http.MethodPatch, own + strategic + "&dryRun=All", `{"metadata": {"labels": {"dubway.io/refuse-this": "please"}}}`, "ValidatingAdmissionPolicy"},
		{"another image", http.MethodPatch, mine, `[{"op": "replace", "path": "/spec/containers/0/image", "value": "evil"}]`, "no more of a pod than"},
		{"a deadline", http.MethodPatch, mine, `{"spec": {"activeDeadlineSeconds": 1}}`, "no more of a pod than"},
		{"a finalizer", http.MethodPatch, mine, `{"metadata": {"finalizers": ["example.org/stay"]}}`, "no more of a pod than"},
		{"an owner", http.MethodPatch, mine, `{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}]}}`, "no more of a pod than"},
		{"a label by the status", http.MethodPatch, mine + "/status", `{"metadata": {"labels": {"app": "mine"}}}`, "and no other"},
		{"another condition", http.MethodPatch, mine + "/status", strings.Replace(enrol, `"True"`, `"False"`, 1), "the condition dubway.io/enrolled"},
		{"a condition less", http.MethodPatch, mine + "/status", `{"status": {"conditions": []}}`, "the condition dubway.io/enrolled"},
		{"a phase", http.MethodPatch, mine + "/status", `{"status": {"phase": "Failed"}}`, "and nothing else of it"},
		{"an address", http.MethodPatch, mine + "/status", `{"status": {"podIP": "198.18.7.7", "podIPs": [{"ip": "198.18.7.7"}]}}`, "and nothing else of it"},

		{"deleting a pod", http.MethodDelete, mine, "", "cannot delete resource"},
		{"making one", http.MethodPost, pods, `{"metadata": {"name": "evil"}}`, "cannot create resource"},
		{"reading secrets", http.MethodGet, "/api/v1/namespaces/" + namespace + "/secrets", "", "cannot list resource"},
		{"changing its DaemonSet", http.MethodPatch, "/apis/apps/v1/namespaces/" + namespace + "/daemonsets/dubway", `{}`, "cannot patch resource"},
		{"changing the policy", http.MethodPatch, "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/dubway", `{}`, "cannot patch resource"},
	}
	// A policy is in force some moments after it is there.
	eventually(t, settling, "the policy is in force", func() error {
		_, err := s.do(t.Context(), ask{http.MethodPatch, other, merge, label, bound})
		var refused *refusal
		if errors.As(err, &refused) && strings.Contains(refused.text, "ValidatingAdmissionPolicy") {
			return nil
		}
		return fmt.Errorf("a pod of another node: %w", err)
	})
	for _, test := range tests {
		kind := merge
		if strings.HasPrefix(test.body, "[") {
			kind = "application/json-patch+json"
		}
		if strings.Contains(test.path, strategic) {
			kind = "application/strategic-merge-patch+json"
		}
		_, err := s.do(t.Context(), ask{test.method, test.path, kind, test.body, bound})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	_, err := s.do(t.Context(), ask{http.MethodPatch, mine, merge, label, s.token(t, "")})
	if err == nil || !strings.Contains(err.Error(), "which its token must name") {
		t.Errorf("a token that is bound to no pod: %v", err)
	}
	for _, path := range []string{mine, other} { // as everybody else
		if _, err := s.do(t.Context(), ask{method: http.MethodPatch, path: path, kind: merge, body: `{"metadata": {"labels": {"x": "y"}}}`}); err != nil {
			t.Errorf("the policy is in somebody else's way: %v", err)
		}
	}
	s.checked(t)
}

// cluster tells the server of two nodes with a pod each, and an agent's on the first. It returns
// that one's token.
func (s *server) cluster(t *testing.T) (token string) {
	t.Helper()
	s.create(t, "/api/v1/namespaces", `{"metadata": {"name": "shop"}}`)
	s.create(t, "/api/v1/namespaces/shop/serviceaccounts", `{"metadata": {"name": "default"}}`)
	for node, pod := range map[string]string{"n1": "here", "n2": "there"} {
		s.create(t, "/api/v1/nodes", fmt.Sprintf(`{"metadata": {"name": %q}}`, node))
		s.create(t, pods, fmt.Sprintf(`{"metadata": {"name": %q, "labels": {"app": "shop"}, "annotations": {"example.org/a": "b"}},
			"spec": {"nodeName": %q, "containers": [{"name": "app", "image": "app"}]}}`, pod, node))
		_, err := s.do(t.Context(), ask{method: http.MethodPatch, path: pods + pod + "/status", kind: merge, body: `{"status": {"phase": "Running",
			"podIP": "198.18.1.1", "podIPs": [{"ip": "198.18.1.1"}], "conditions": [{"type": "Ready", "status": "True"}]}}`})
		if err != nil {
			t.Fatal(err)
		}
	}
	made := s.create(t, "/api/v1/namespaces/"+namespace+"/pods", `{"metadata": {"name": "agent-n1"},
		"spec": {"nodeName": "n1", "serviceAccountName": "dubway", "containers": [{"name": "agent", "image": "dubway"}]}}`)
	var pod struct{ Metadata struct{ UID string } }
	if err := json.Unmarshal(made, &pod); err != nil {
		t.Fatal(err)
	}
	return s.token(t, fmt.Sprintf(`"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "agent-n1", "uid": %q}`, pod.Metadata.UID))
}

// token is one of the agent's account, as the kubelet asks for it.
func (s *server) token(t *testing.T, spec string) string {
	t.Helper()
	answer := s.create(t, "/api/v1/namespaces/"+namespace+"/serviceaccounts/dubway/token",
		fmt.Sprintf(`{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {%s}}`, spec))
	var made struct{ Status struct{ Token string } }
	if err := json.Unmarshal(answer, &made); err != nil {
		t.Fatal(err)
	}
	return made.Status.Token
}

// checked: the server found nothing that its own types contradict in the policy's expressions.
func (s *server) checked(t *testing.T) {
	t.Helper()
	text, err := s.do(t.Context(), ask{method: http.MethodGet, path: "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/dubway"})
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Status struct {
			TypeChecking struct{ ExpressionWarnings []json.RawMessage }
		}
	}
	if err := json.Unmarshal(text, &policy); err != nil {
		t.Fatal(err)
	}
	for _, warning := range policy.Status.TypeChecking.ExpressionWarnings {
		t.Errorf("the policy's types: %s", warning)
	}
}

// empty: what the chart makes is gone with it.
func (s *server) empty(t *testing.T) {
	t.Helper()
	for _, kinds := range []string{
		"/apis/apps/v1/daemonsets", "/api/v1/serviceaccounts", "/api/v1/configmaps", "/api/v1/services", "/apis/rbac.authorization.k8s.io/v1/clusterroles",
		"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", "/apis/rbac.authorization.k8s.io/v1/roles", "/apis/rbac.authorization.k8s.io/v1/rolebindings",
		"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
		"/apis/networking.k8s.io/v1/networkpolicies", "/apis/batch/v1/jobs",
	} {
		eventually(t, settling, "nothing is left", func() error {
			text, err := s.do(t.Context(), ask{method: http.MethodGet, path: kinds + "?labelSelector=app.kubernetes.io%2Finstance%3Ddubway"})
			if err != nil {
				return err
			}
			var list struct{ Items []object }
			if err := json.Unmarshal(text, &list); err != nil || len(list.Items) > 0 {
				return fmt.Errorf("%d of %s, the first is %+v (%w)", len(list.Items), kinds, list.Items, err)
			}
			return nil
		})
	}
}
