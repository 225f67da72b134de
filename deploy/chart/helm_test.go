//go:build e2e

package chart_test

import (
	"bytes"
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// helmEnv says where Helm is, as `make chart-check` does.
const helmEnv = "DUBWAY_HELM"

// namespace is the release's, as in the README.
const namespace = "dubway-system"

// helm runs Helm with a home of its own, and returns what it says.
func helm(ctx context.Context, t *testing.T, args ...string) (string, error) {
	t.Helper()
	path := os.Getenv(helmEnv)
	if path == "" {
		t.Fatalf("%s does not say where Helm is: run make chart-check", helmEnv)
	}
	home := t.TempDir()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil
}

// template renders the chart.
func template(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return helm(t.Context(), t, append([]string{"template", "dubway", ".", "--namespace", namespace}, args...)...)
}

// scenarios are the files of values, by name.
func scenarios(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.values.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files of values (%v)", len(files), err)
	}
	all := map[string]string{}
	for _, path := range files {
		all[strings.TrimSuffix(filepath.Base(path), ".values.yaml")] = path
	}
	return all
}

func TestLint(t *testing.T) {
	for name, values := range scenarios(t) {
		if said, err := helm(t.Context(), t, "lint", "--strict", "--quiet", ".", "--values", values); err != nil {
			t.Errorf("%s: %v\n%s", name, err, said)
		}
	}
}

// TestGolden: what each scenario renders is what was read and found good.
func TestGolden(t *testing.T) {
	for name, values := range scenarios(t) {
		t.Run(name, func(t *testing.T) {
			got, err := template(t, "--values", values)
			if err != nil {
				t.Fatalf("%v\n%s", err, got)
			}
			path := filepath.Join("testdata", name+".golden.yaml")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v: make it with make chart-check TESTFLAGS=-update", err)
			}
			if got != string(want) {
				t.Errorf("%s is not what is rendered now; look at the difference after make chart-check TESTFLAGS=-update. First: %s",
					path, difference(got, string(want)))
			}
		})
	}
}

// difference is the first line in which two texts differ.
func difference(got, want string) string {
	other := strings.Split(want, "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(other) || line != other[i] {
			return "+" + line
		}
	}
	return "some are no longer there"
}

// TestRefusals: what is written wrongly is refused by name, before anything is installed.
func TestRefusals(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"a typo", []string{"--set", "xds.mod=istiod"}, "at '/xds': additional properties 'mod' not allowed"},
		{"a typo at the top", []string{"--set", "istoid.tls=false"}, "additional properties 'istoid' not allowed"},
		{"a typo in a form of Kubernetes'", []string{"--set", "agent.resources.limit.memory=1Gi"}, "at '/agent/resources': additional properties 'limit' not allowed"},
		{"a typo in a list", []string{"--set", "tolerations[0].operater=Exists"}, "at '/tolerations/0': additional properties 'operater' not allowed"},
		{"a wrong word", []string{"--set", "xds.mode=consul"}, "at '/xds/mode': value must be one of 'files', 'istiod'"},
		{"another", []string{"--set", "cni.mode=close"}, "at '/cni/mode': value must be one of 'closed', 'open', 'off'"},
		{"a wrong type", []string{"--set-string", "proxy.drainSeconds=25s"}, "at '/proxy/drainSeconds': got string, want integer"},
		{"a word for yes", []string{"--set-string", "rbac.create=yes"}, "at '/rbac/create': got string, want boolean"},
		{"a number out of bounds", []string{"--set", "accessLog.sample=2"}, "maximum: got 2, want 1"},
		{"no port", []string{"--set", "istiod.address=istiod.istio-system.svc"}, "at '/istiod/address': 'istiod.istio-system.svc' does not match pattern"},
		{"a relative path", []string{"--set", "cni.confDir=etc/cni/net.d"}, "at '/cni/confDir': 'etc/cni/net.d' does not match pattern"},
		{"no duration", []string{"--set-string", "leave.timeout=240"}, "at '/leave/timeout': '240' does not match pattern"},
		{"a file that the proxy would not read", []string{"--set", `xds.files.routes\.txt=x`}, "additional properties 'routes.txt' not allowed"},
		{"two sources of files", []string{"--set", `xds.files.routes\.yaml=x,xds.existingConfigMap=mine`}, "xds.files and xds.existingConfigMap: say one of them"},
		{"files with istiod", []string{"--set", `xds.mode=istiod,xds.files.routes\.yaml=x`}, "are for xds.mode=files"},
		{"an old cluster", []string{"--kube-version", "1.29.9"}, "chart requires kubeVersion: >=1.30.0-0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			said, err := template(t, test.args...)
			if err == nil {
				t.Fatal("it was rendered")
			}
			if !strings.Contains(said, test.want) {
				t.Errorf("Helm said\n%s\nwant %q in it", said, test.want)
			}
		})
	}
}

// TestDashboards: each dashboard is in a ConfigMap, whole, where Grafana looks.
func TestDashboards(t *testing.T) {
	text, err := template(t, "--set", "dashboards.enabled=true,dashboards.namespace=monitoring,dashboards.annotations.folder=Dubbo")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	files, err := filepath.Glob("dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d dashboards (%v)", len(files), err)
	}
	found := map[string]string{}
	for _, o := range objects(t, text) {
		if o.Metadata.Labels["grafana_dashboard"] != "1" {
			continue
		}
		if o.Kind != "ConfigMap" || o.Metadata.Namespace != "monitoring" || o.Metadata.Annotations["folder"] != "Dubbo" {
			t.Errorf("%s %s: %+v", o.Kind, o.Metadata.Name, o.Metadata)
		}
		maps.Copy(found, o.Data)
	}
	for _, path := range files {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(found[filepath.Base(path)]) != strings.TrimSpace(string(want)) {
			t.Errorf("%s is not in a ConfigMap as it is", path)
		}
	}
	if len(found) != len(files) {
		t.Errorf("%d dashboards in ConfigMaps, %d files", len(found), len(files))
	}
}
