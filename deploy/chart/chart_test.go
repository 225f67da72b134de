// Package chart_test holds the chart against what is beside it: the binaries' flags, its own
// values, its schema, its README. What needs Helm or an API server has the build tag e2e and
// runs by `make chart-check`.
package chart_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/dubway/dubway/internal/version"
)

var update = flag.Bool("update", false, "rewrite the golden files and the README's table")

func TestMain(m *testing.M) {
	flag.Parse()
	status := m.Run()
	os.RemoveAll(built)
	os.Exit(status)
}

// built is the folder of the binaries once a test has asked for them.
var built string

// binaries builds the commands once, into a folder.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "dubway-chart-")
	if err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	built = dir
	// As make build does, so that the build cache has it already.
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/", "../../cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, text)
	}
	return dir, nil
})

// object is a Kubernetes object, of which no test needs more than a few fields.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec json.RawMessage   `json:"spec"`
	Data map[string]string `json:"data"`

	text string
}

// objects reads the documents of a YAML text. A key that stands twice is an error.
func objects(t *testing.T, text string) []object {
	t.Helper()
	var all []object
	for part := range strings.SplitSeq("\n"+text, "\n---\n") {
		var o object
		// Not strict about fields that it does not have; the API server is.
		content, err := yaml.YAMLToJSONStrict([]byte(part))
		if err == nil {
			err = json.Unmarshal(content, &o)
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, part)
		}
		if o.text = part; o.Kind != "" {
			all = append(all, o)
		}
	}
	return all
}

// container is what is run, by its pod or by its probes.
type container struct {
	Name           string        `json:"name"`
	Command        []string      `json:"command"`
	Args           []string      `json:"args"`
	StartupProbe   probe         `json:"startupProbe"`
	ReadinessProbe probe         `json:"readinessProbe"`
	VolumeMounts   []volumeMount `json:"volumeMounts"`
}

type volumeMount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
	SubPath   string `json:"subPath"`
}

type probe struct {
	Exec struct {
		Command []string `json:"command"`
	} `json:"exec"`
}

// containers are those of an object's pods.
func (o *object) containers(t *testing.T) []container {
	t.Helper()
	var spec struct {
		Containers []container `json:"containers"`
		Template   struct {
			Spec struct {
				Containers []container `json:"containers"`
			} `json:"spec"`
		} `json:"template"`
	}
	if len(o.Spec) == 0 || o.Kind == "PodMonitor" || o.Kind == "ServiceMonitor" {
		return nil
	}
	if err := json.Unmarshal(o.Spec, &spec); err != nil {
		t.Fatal(err)
	}
	return append(spec.Containers, spec.Template.Spec.Containers...)
}

// golden are the golden files, by scenario.
func golden(t *testing.T) map[string][]object {
	t.Helper()
	files, err := filepath.Glob("testdata/*.golden.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d golden files (%v): run make chart-check with TESTFLAGS=-update", len(files), err)
	}
	all := map[string][]object{}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(path), ".golden.yaml")] = objects(t, string(text))
	}
	return all
}

// TestFlags has the real binaries read what the chart tells them.
func TestFlags(t *testing.T) {
	ran := 0
	for scenario, all := range golden(t) {
		for _, o := range all {
			for _, c := range o.containers(t) {
				for _, command := range [][]string{append(c.Command, c.Args...), c.StartupProbe.Exec.Command, c.ReadinessProbe.Exec.Command} {
					if len(command) == 0 {
						continue
					}
					ran++
					if said := parsed(t, command); said != "" {
						t.Errorf("%s, %s %s, container %s: %s", scenario, o.Kind, o.Metadata.Name, c.Name, said)
					}
				}
			}
		}
	}
	if ran < 10 {
		t.Errorf("%d commands were tried: this test looks at nothing", ran)
	}
}

// parsed returns what a binary's own parser has against a command. --help, at its end, makes it
// do nothing else.
func parsed(t *testing.T, command []string) string {
	t.Helper()
	args := []string{}
	for _, arg := range command[1:] {
		args = append(args, strings.NewReplacer("$(NODE_NAME)", "node", "$(HOST_IPS)", "198.18.0.1,2001:db8::1").Replace(arg))
	}
	return help(t, command[0], args...)
}

// help returns what a binary says against arguments, or "".
func help(t *testing.T, name string, args ...string) string {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, name), append(args, "--help")...)
	cmd.Stdout, cmd.Stderr = io.Discard, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Sprintf("%v: %s", err, stderr.String())
	}
	return ""
}

// TestFlagsCanFail: the parser is the real one.
func TestFlagsCanFail(t *testing.T) {
	for _, test := range []struct{ command, want string }{
		{"dubway-proxy --drian=25s", "unknown flag: --drian"},
		{"dubway-proxy --drain=25", "invalid argument"},
		{"dubway-agent runs", "unknown command"},
		{"dubwayctl echo call --in=1m", "unknown flag: --in"},
	} {
		if said := parsed(t, strings.Fields(test.command)); !strings.Contains(said, test.want) {
			t.Errorf("%s: %q, want %q in it", test.command, said, test.want)
		}
	}
}

// TestPrivileges holds the DaemonSet of every scenario against docs/ARCHITECTURE.md's table:
// whatever is said, the proxy gets no privilege and no token.
func TestPrivileges(t *testing.T) {
	type security struct {
		RunAsUser                *int64          `json:"runAsUser"`
		RunAsNonRoot             bool            `json:"runAsNonRoot"`
		Privileged               bool            `json:"privileged"`
		AllowPrivilegeEscalation *bool           `json:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool            `json:"readOnlyRootFilesystem"`
		SeccompProfile           json.RawMessage `json:"seccompProfile"`
		Capabilities             struct{ Drop, Add []string }
	}
	type pod struct {
		HostPID, HostNetwork         bool
		AutomountServiceAccountToken *bool
		Containers                   []struct {
			Name            string
			SecurityContext security
			VolumeMounts    []volumeMount
		}
	}
	agent := []string{"BPF", "CHOWN", "NET_ADMIN", "PERFMON", "SYS_ADMIN", "SYS_PTRACE"}
	for scenario, all := range golden(t) {
		i := slices.IndexFunc(all, func(o object) bool { return o.Kind == "DaemonSet" })
		var spec struct{ Template struct{ Spec pod } }
		if err := json.Unmarshal(all[i].Spec, &spec); err != nil {
			t.Fatal(err)
		}
		p := spec.Template.Spec
		if !p.HostPID || p.HostNetwork || p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken || len(p.Containers) != 2 {
			t.Errorf("%s: the pod is %+v", scenario, p)
		}
		for _, c := range p.Containers {
			s := c.SecurityContext
			if s.Privileged || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !s.ReadOnlyRootFilesystem ||
				!slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || string(s.SeccompProfile) != `{"type":"RuntimeDefault"}` {
				t.Errorf("%s, %s: %+v", scenario, c.Name, s)
			}
			slices.Sort(s.Capabilities.Add)
			added := slices.DeleteFunc(s.Capabilities.Add, func(c string) bool { return c == "SYS_RESOURCE" && scenario == "hardened" })
			var mounts []string
			for _, m := range c.VolumeMounts {
				mounts = append(mounts, m.Name+":"+m.SubPath)
			}
			switch c.Name {
			case "agent":
				if !slices.Equal(added, agent) {
					t.Errorf("%s: the agent gets %q, want %q", scenario, added, agent)
				}
			case "proxy":
				slices.Sort(mounts)
				if len(added) > 0 || !s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser != 65532 {
					t.Errorf("%s: the proxy is %+v", scenario, s)
				}
				if !slices.Equal(slices.DeleteFunc(mounts, func(m string) bool { return m == "xds:" }), []string{"state:agent", "state:proxy"}) {
					t.Errorf("%s: the proxy mounts %q, want the two folders of the state, and files of xDS", scenario, mounts)
				}
			}
		}
	}
}

// TestXDS has dubwayctl check what the chart itself says in xDS.
func TestXDS(t *testing.T) {
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range golden(t)["files"] {
		if o.Kind != "ConfigMap" || o.Data["dubway-test.yaml"] == "" {
			continue
		}
		folder := t.TempDir()
		for name, text := range o.Data {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		said, err := exec.CommandContext(t.Context(), filepath.Join(dir, "dubwayctl"), "check", folder).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(said), "valid: 1 listeners, 1 routes, 2 clusters, 1 endpoints") {
			t.Errorf("%v: %s", err, said)
		}
		return
	}
	t.Error("no file of helm test's")
}

// TestVersion: the chart's default image is this release's.
func TestVersion(t *testing.T) {
	text, err := os.ReadFile("Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var chart struct{ Version, AppVersion string }
	if err := yaml.Unmarshal(text, &chart); err != nil {
		t.Fatal(err)
	}
	if chart.Version != version.Version || chart.AppVersion != version.Version {
		t.Errorf("the chart is %s of %s, the release %s", chart.Version, chart.AppVersion, version.Version)
	}
}

// schema is what the tests look at of a JSON schema.
type schema struct {
	Type                 any                `json:"type"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties any                `json:"additionalProperties"`
}

// TestSchema: the schema knows the values that values.yaml has, and no other, at every depth.
func TestSchema(t *testing.T) {
	var s schema
	var values map[string]any
	text, err := os.ReadFile("values.schema.json")
	if err := errors.Join(err, json.Unmarshal(text, &s)); err != nil {
		t.Fatal(err)
	}
	text, err = os.ReadFile("values.yaml")
	if err := errors.Join(err, yaml.Unmarshal(text, &values)); err != nil {
		t.Fatal(err)
	}
	values["global"] = map[string]any{} // Helm's own
	sameNames(t, "", &s, values)
}

// sameNames compares the names of a schema and of values, which a value of the chart's own has.
func sameNames(t *testing.T, path string, s *schema, values map[string]any) {
	t.Helper()
	if s.AdditionalProperties == nil {
		t.Errorf("the schema lets anything into %q", path)
	}
	if len(s.Properties) == 0 || foreign(path) {
		return
	}
	if !slices.Equal(slices.Sorted(maps.Keys(s.Properties)), slices.Sorted(maps.Keys(values))) {
		t.Errorf("%q has %q in the schema and %q in values.yaml", path,
			slices.Sorted(maps.Keys(s.Properties)), slices.Sorted(maps.Keys(values)))
		return
	}
	for name, below := range s.Properties {
		if inner, ok := values[name].(map[string]any); ok && len(below.Properties) > 0 {
			sameNames(t, strings.TrimPrefix(path+"."+name, "."), below, inner)
		}
	}
}

// foreign tells whether a value has Kubernetes' own form.
func foreign(path string) bool {
	last := path[strings.LastIndex(path, ".")+1:]
	return slices.Contains([]string{"resources", "appArmorProfile", "seLinuxOptions", "affinity"}, last)
}
