//go:build e2e

package chart_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/testnet/guide"
)

// checkout is where the guides' commands are given.
const checkout = "../.."

// commandsOf are the guides' commands of one program, by the document's path. Those of other
// languages are the same, which the tests of dubwayctl see.
func commandsOf(t *testing.T, program string) map[string][][]string {
	t.Helper()
	all := map[string][][]string{}
	for _, path := range guides() {
		commands, err := guide.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range commands {
			if words := commands[i].Words(); words[0] == program {
				all[path] = append(all[path], words[1:])
			}
		}
	}
	if len(all) < 3 {
		t.Fatalf("%s is in %d documents: this test looks at nothing", program, len(all))
	}
	return all
}

// known has a program read a command's flags, and do nothing.
func known(ctx context.Context, program string, words []string) error {
	if at := slices.Index(words, "--"); at >= 0 {
		words = words[:at] // what follows runs in a pod
	}
	said, err := exec.CommandContext(ctx, program, append(slices.Clone(words), "--help")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	for _, root := range []string{"kubectl [flags] [options]", "helm [command]"} {
		if strings.Contains(string(said), root) { // whose help is shown for a verb that is none
			return fmt.Errorf("%q is no command", words)
		}
	}
	return nil
}

// TestGuideHelm: Helm knows the verbs and flags, and renders the chart with the values.
func TestGuideHelm(t *testing.T) {
	binary := os.Getenv(helmEnv)
	if binary == "" {
		t.Fatalf("%s does not say where Helm is: run make chart-check", helmEnv)
	}
	for _, words := range [][]string{{"install", "dubway", "deploy/chart", "--wiat"}, {"instal", "dubway"}} {
		if err := known(t.Context(), binary, words); err == nil {
			t.Errorf("Helm takes %q: this test sees nothing", words)
		}
	}
	for path, all := range commandsOf(t, "helm") {
		for _, words := range all {
			line := path + ": helm " + strings.Join(words, " ")
			if err := known(t.Context(), binary, words); err != nil {
				t.Errorf("%s: %v", line, err)
			}
			if len(words) < 3 || words[2] != "deploy/chart" {
				continue
			}
			words = slices.DeleteFunc(append([]string{"template"}, words[1:]...), func(word string) bool {
				return word == "--wait" || word == "--reuse-values"
			})
			render := exec.CommandContext(t.Context(), binary, words...)
			render.Dir = checkout
			if said, err := render.CombinedOutput(); err != nil || !strings.Contains(string(said), "kind: DaemonSet") {
				t.Errorf("%s: %v: %s", line, err, said)
			}
		}
	}
}

// TestGuideKubectl: kubectl knows the verbs and flags.
func TestGuideKubectl(t *testing.T) {
	kubectl := kubectl(t, t.TempDir())
	for _, words := range [][]string{{"get", "pods", "--al"}, {"-n", "shop", "gett", "pods"}} {
		if err := known(t.Context(), kubectl, words); err == nil {
			t.Errorf("kubectl takes %q: this test sees nothing", words)
		}
	}
	for path, all := range commandsOf(t, "kubectl") {
		for _, words := range all {
			if words[0] == "dubway" {
				continue // TestGuides of dubwayctl
			}
			if err := known(t.Context(), kubectl, words); err != nil {
				t.Errorf("%s: kubectl %s: %v", path, strings.Join(words, " "), err)
			}
		}
	}
}

// kubectl is that of tools/k8s, in a directory.
func kubectl(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "kubectl") // it is the program that it is called as
	if err := os.Symlink(filepath.Join(os.Getenv(kubernetesEnv), "k8s"), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// guides has the server take what the guides change, as if it were done.
func (s *server) guides(t *testing.T) {
	kubectl := kubectl(t, s.dir)
	s.create(t, "/api/v1/namespaces", `{"metadata": {"name": "istio-system"}}`)
	const template = `"template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}`
	s.create(t, "/apis/apps/v1/namespaces/istio-system/deployments",
		`{"metadata": {"name": "istiod"}, "spec": {"selector": {"matchLabels": {"app": "a"}}, `+template+`}}`)
	s.create(t, "/apis/apps/v1/namespaces/shop/statefulsets",
		`{"metadata": {"name": "orders"}, "spec": {"serviceName": "orders", "selector": {"matchLabels": {"app": "a"}}, `+template+`}}`)
	for _, name := range []string{"orders-0", "batch-0"} {
		s.create(t, pods, fmt.Sprintf(`{"metadata": {"name": %q}, "spec": {"containers": [{"name": "app", "image": "app"}]}}`, name))
	}
	s.create(t, "/api/v1/namespaces/shop/services", `{"metadata": {"name": "orders"}, "spec": {"ports": [{"name": "tcp-dubbo", "port": 20880}]}}`)
	changed := 0
	for path, all := range commandsOf(t, "kubectl") {
		for _, words := range all {
			words = dry(words)
			if words == nil {
				continue
			}
			changed++
			cmd := exec.CommandContext(t.Context(), kubectl, append(words, "--kubeconfig="+s.file("kubeconfig"))...)
			cmd.Dir = checkout
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: kubectl %s: %v: %s", path, strings.Join(words, " "), err, said)
			}
		}
	}
	if changed < 20 {
		t.Errorf("%d commands change something: this test looks at nothing", changed)
	}
	if _, err := s.do(t.Context(), ask{method: http.MethodGet, path: "/api/v1/namespaces/shop"}); err != nil {
		t.Errorf("what was to be tried alone was done: %v", err)
	}
}

// dry is a command that changes the cluster, made one that does not; nil for others. A file that an
// earlier command writes is not there.
func dry(words []string) []string {
	words = slices.Clone(words)
	how := ""
	for i, word := range words {
		switch word {
		case "create": // the guide's namespace is there already
			how = "--dry-run=client"
		case "label", "annotate", "apply", "patch", "set", "delete":
			how = "--dry-run=server"
		case "dubway", "exec", "services.yaml":
			return nil
		case "POD":
			words[i] = "agent-n1"
		}
	}
	if how == "" {
		return nil
	}
	return append(words, how)
}
