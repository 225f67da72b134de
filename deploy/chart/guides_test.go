package chart_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/dubway/dubway/internal/testnet/guide"
	"github.com/dubway/dubway/internal/version"
)

// span is a span of code; named, a value of the chart in one, as `cni.mode` or `cni.mode=open`.
var (
	span  = regexp.MustCompile("`([^`\n]+)`")
	named = regexp.MustCompile(`^([a-z][A-Za-z]*(?:\.[A-Za-z]+)*)(?:=.*)?$`)
)

// guides are the documents that tell people which values to set and what to run.
func guides() []string {
	return []string{"../../docs/adopt.md", "../../docs/install.md", "../../docs/observe.md", "../../docs/troubleshoot.md"}
}

// TestGuideValues: each value that the guides name is one of the chart's.
func TestGuideValues(t *testing.T) {
	text, err := os.ReadFile("values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, path := range guides() {
		for _, path := range []string{path, strings.Replace(path, "docs/", "docs/zh/", 1)} {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			found, wrong := valuesIn(string(text), values)
			seen += found
			if len(wrong) > 0 {
				t.Errorf("%s names %q, which are no values of the chart", path, wrong)
			}
		}
	}
	if seen < 60 {
		t.Errorf("%d values are named: this test looks at nothing", seen)
	}
}

func TestGuideValuesCanFail(t *testing.T) {
	values := map[string]any{"cni": map[string]any{"mode": "closed"}, "labels": map[string]any{}}
	found, wrong := valuesIn("`cni.mode=open`, `cni.modes`, `labels.a`, `pilot.env`, `cni`, plain cni.x", values)
	if found != 4 || strings.Join(wrong, " ") != "cni.modes" {
		t.Errorf("%d found, %q wrong", found, wrong)
	}
}

// valuesIn counts the values that a text names in spans of code, and returns those that are none. A
// value that is an empty object takes any name below it. Cilium's begin like ours and are its own.
func valuesIn(text string, values map[string]any) (found int, wrong []string) {
	for _, match := range span.FindAllStringSubmatch(text, -1) {
		name := named.FindStringSubmatch(match[1])
		if name == nil || name[1] == "cni.exclusive" {
			continue
		}
		path := strings.Split(name[1], ".")
		if _, ours := values[path[0]]; !ours {
			continue
		}
		found++
		var value any = values
		for _, part := range path {
			inner, object := value.(map[string]any)
			if object && len(inner) == 0 {
				break
			}
			if value, object = inner[part]; !object {
				wrong = append(wrong, name[1])
				break
			}
		}
	}
	return found, wrong
}

// TestQuickstart: the files that docs/install.md applies run this release's image, and every file
// that a command of the guides names is there.
func TestQuickstart(t *testing.T) {
	text, err := os.ReadFile("../quickstart/pods.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(string(text), "image: dubway:"+version.Version+"\n"), strings.Count(string(text), "image: "); got != want || got == 0 {
		t.Errorf("%d of %d images in deploy/quickstart/pods.yaml are of this release, dubway:%s", got, want, version.Version)
	}
	file := regexp.MustCompile(`deploy/[a-z0-9/.-]+`)
	seen := 0
	for _, path := range guides() {
		commands, err := guide.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range commands {
			for _, name := range file.FindAllString(c.Line, -1) {
				seen++
				if _, err := os.Stat(filepath.Join("../..", name)); err != nil {
					t.Errorf("%s: %s: %v", path, c.Line, err)
				}
			}
		}
	}
	if seen == 0 {
		t.Error("no command names a file: this test looks at nothing")
	}
}
