package guide

import (
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	const text = "# Title\n\n```sh\nfirst 1\n```\n\n## One\n\n```yaml\nnot: this\n## nor: that\n```\n\n```sh\n# A comment.\nsecond 'a b' \\\n  --more\n\nthird > file\n```\n\n### Two\n\n```\nno\n```\n```sh\nfourth\n```\n"
	all, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []Command{{"", "first 1"}, {"One", "second 'a b' --more"}, {"One", "third > file"}, {"Two", "fourth"}}
	if !slices.Equal(all, want) {
		t.Errorf("commands %q, want %q", all, want)
	}
	if lines := Lines(Section(all, "One")); !slices.Equal(lines, []string{"second 'a b' --more", "third > file"}) {
		t.Errorf("section One has %q", lines)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"```sh\nfirst\n", "```sh\nfirst \\\n```\n"} {
		if all, err := parse(text); err == nil {
			t.Errorf("%q was read as %q", text, all)
		}
	}
}

func TestWords(t *testing.T) {
	tests := []struct {
		line string
		want []string
	}{
		{"kubectl get pods", []string{"kubectl", "get", "pods"}},
		{"kubectl  patch -p '[{\"a\": 1}]'", []string{"kubectl", "patch", "-p", `[{"a": 1}]`}},
		{`helm x --set-file 'xds.files.a\.yaml=a.yaml'`, []string{"helm", "x", "--set-file", `xds.files.a\.yaml=a.yaml`}},
		{"mode --pod='a b'/c ''", []string{"mode", "--pod=a b/c", ""}},
		{"dubwayctl plan > plan.txt", []string{"dubwayctl", "plan"}},
		{"echo 'a > b'", []string{"echo", "a > b"}},
	}
	for _, test := range tests {
		if got := (&Command{Line: test.line}).Words(); !slices.Equal(got, test.want) {
			t.Errorf("%s: words %q, want %q", test.line, got, test.want)
		}
	}
}
