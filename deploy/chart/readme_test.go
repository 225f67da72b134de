package chart_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// The table is between these lines of the README.
const begin, end = "<!-- values -->\n", "<!-- end of values -->\n"

// TestReadme: the README's table is values.yaml's comments; with -update it is made of them.
func TestReadme(t *testing.T) {
	values, err := os.ReadFile("values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := table(string(values))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(readme), begin)
	got, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("README.md has no lines %q and %q", begin, end)
	}
	if want := "\n" + rows + "\n"; got != want {
		if *update {
			if err := os.WriteFile("README.md", []byte(before+begin+want+end+after), 0o644); err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Errorf("README.md's table is not what values.yaml says: run go test ./deploy/chart -update")
	}
}

func TestTableCanFail(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1\n":                                   "a has no comment",
		"# Of all.\n\na: 1\n":                      "a has no comment",
		"b:\n  # One.\n  c: 1\n  d: {e: 2}\n":      "b.d has no comment",
		"# A.\na: 1\nb:\n  c: [1]\n  # D.\n  d: 1": "b.c has no comment",
	} {
		if _, err := table(text); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	rows, err := table("# About.\n\n# Of\n# a.\na: \"\"\nb:\n  # Of x|y.\n  c:\n    d: 1\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := "| value | default | |\n|---|---|---|\n| `a` | `\"\"` | Of a. |\n| `b.c` | `{\"d\":1}` | Of x\\|y. |\n"; rows != want {
		t.Errorf("rows\n%swant\n%s", rows, want)
	}
}

// table makes the rows: a comment describes the value below it, with all that is in that; a
// value without one must be a group of others.
func table(text string) (string, error) {
	var values map[string]any
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		return "", fmt.Errorf("read values: %w", err)
	}
	var out strings.Builder
	out.WriteString("| value | default | |\n|---|---|---|\n")
	var comment, path []string
	skip := -1 // what is deeper belongs to the value that was described
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		word := strings.TrimLeft(line, " ")
		depth := (len(line) - len(word)) / 2
		switch {
		case word == "":
			comment = nil
			continue
		case skip >= 0 && depth > skip:
			continue
		case strings.HasPrefix(word, "#"):
			comment, skip = append(comment, strings.TrimSpace(word[1:])), -1
			continue
		}
		skip = -1
		name, rest, _ := strings.Cut(word, ":")
		path = append(slices.Clip(path[:depth]), name)
		full := strings.Join(path, ".")
		if len(comment) == 0 {
			if rest != "" {
				return "", fmt.Errorf("%s has no comment", full)
			}
			continue
		}
		content, err := json.Marshal(at(values, path))
		if err != nil {
			return "", fmt.Errorf("write %s: %w", full, err)
		}
		fmt.Fprintf(&out, "| `%s` | `%s` | %s |\n", full, content, strings.ReplaceAll(strings.Join(comment, " "), "|", `\|`))
		comment, skip = nil, depth
	}
	return out.String(), nil
}

// at is a value by its path.
func at(values map[string]any, path []string) any {
	var value any = values
	for _, name := range path {
		inner, _ := value.(map[string]any)
		value = inner[name]
	}
	return value
}
