package scenario

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/dubway/dubway/l7proxy/xds"
)

const policyPage = "../../../docs/policies.md"

var (
	exampleBlock = regexp.MustCompile("(?s)```yaml\n(# example: ([a-z-]+)\n.*?)```")
	anyBlock     = regexp.MustCompile("```yaml\n")
	exampleCell  = regexp.MustCompile("\\| `([a-z-]+)` \\|\n")
)

// policyExamples are the examples of docs/policies.md by name.
func policyExamples(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(policyPage)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, m := range exampleBlock.FindAllStringSubmatch(string(page), -1) {
		if _, twice := all[m[2]]; twice {
			t.Errorf("two examples are named %s", m[2])
		}
		all[m[2]] = m[1]
	}
	if n := len(anyBlock.FindAllString(string(page), -1)); n != len(all) {
		t.Errorf("%d blocks of the page, %d of them with a name", n, len(all))
	}
	return all
}

// resource is one of xDS, as YAML has it.
type resource map[string]any

func (r resource) same(other resource) bool {
	return r["@type"] == other["@type"] && r["name"] == other["name"]
}

// resources reads a document with one resource, or with a list.
func resources(t *testing.T, text string) []resource {
	t.Helper()
	var list struct{ Resources []resource }
	if err := yaml.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	if list.Resources != nil {
		return list.Resources
	}
	var one resource
	if err := yaml.Unmarshal([]byte(text), &one); err != nil {
		t.Fatal(err)
	}
	return []resource{one}
}

// compose is the service with an example's resources in the place of its own.
func compose(t *testing.T, service, example string) string {
	t.Helper()
	all := resources(t, example)
	for _, r := range resources(t, service) {
		if !slices.ContainsFunc(all, r.same) {
			all = append(all, r)
		}
	}
	text, err := yaml.Marshal(map[string]any{"resources": all})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPolicyExamples: every row of the page's table has its example, every example
// is one that TestPolicyTraffic makes calls by, and nothing of it is rejected. It
// needs no privilege.
func TestPolicyExamples(t *testing.T) {
	examples := policyExamples(t)
	page, err := os.ReadFile(policyPage)
	if err != nil {
		t.Fatal(err)
	}
	rows := exampleCell.FindAllStringSubmatch(string(page), -1)
	if len(rows) < len(policyRuns)-1 {
		t.Errorf("the table has %d rows", len(rows))
	}
	for _, row := range rows {
		if examples[row[1]] == "" {
			t.Errorf("the table names the example %s, which is not there", row[1])
		}
	}
	if len(examples) != len(policyRuns) {
		t.Errorf("%d examples, of which %d are run", len(examples), len(policyRuns))
	}
	for _, one := range policyRuns {
		path := filepath.Join(t.TempDir(), "example.yaml")
		if err := os.WriteFile(path, []byte(compose(t, examples["service"], examples[one.name])), 0o600); err != nil {
			t.Fatal(err)
		}
		s, rejected := xds.Load([]string{path})
		for _, r := range rejected {
			t.Errorf("%s: %s %s: %s: %s", one.name, r.Kind, r.Name, r.Field, r.Reason)
		}
		if len(s.Listeners) == 0 || s.Listeners[0].Route == nil || len(s.Clusters) < 2 {
			t.Errorf("%s: %d listeners, %d clusters", one.name, len(s.Listeners), len(s.Clusters))
		}
	}
}
