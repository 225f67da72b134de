package dubway_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// A path that begins with one of our folders, up to what cannot belong to it.
	namedPath = regexp.MustCompile(`(?:^|[\s(\x60"'])((?:bpf|agent|cni|l7proxy|cmd|internal|deploy|docs|\.ci)/[A-Za-z0-9_./-]*)`)
	// A target in a code span or an indented block, with the commands around it.
	namedTarget = regexp.MustCompile("(?:\x60|^    |sudo )make ([a-z][a-z0-9 -]*)")
	makeTarget  = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`)
)

// TestDocuments holds the documents against the tree: the files, folders and
// targets that they name exist, and the longest is still short.
func TestDocuments(t *testing.T) {
	documents, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	translated, err := filepath.Glob("docs/zh/*.md")
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	targets := targetsOf(string(makefile))
	for _, path := range append(append(documents, translated...), "README.md", "CONTRIBUTING.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, finding := range documentFindings(string(text), targets) {
			t.Errorf("%s: %s", path, finding)
		}
	}
}

func TestDocumentRulesCanFail(t *testing.T) {
	targets := targetsOf("test: build\n\techo\n")
	tests := []struct{ text, want string }{
		{"see `docs/NOWHERE.md`", "names docs/NOWHERE.md"},
		{"in (l7proxy/nowhere/).", "names l7proxy/nowhere/"},
		{"run `make nothing`", "names make nothing"},
		{"    make test nothing", "names make nothing"},
		{"`Makefile`, docs/ and `make test`.", ""},
	}
	for _, test := range tests {
		got := strings.Join(documentFindings(test.text, targets), "\n")
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%q: findings %q, want one with %q", test.text, got, test.want)
		}
	}
}

// TestArchitectureIsShort keeps the picture of the whole on two screens.
func TestArchitectureIsShort(t *testing.T) {
	const twoScreens = 120
	text, err := os.ReadFile("docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > twoScreens {
		t.Errorf("%d lines, two screens are %d", n, twoScreens)
	}
}

func targetsOf(makefile string) []string {
	var targets []string
	for _, match := range makeTarget.FindAllStringSubmatch(makefile, -1) {
		targets = append(targets, match[1])
	}
	return targets
}

// documentFindings returns what a document names and does not exist.
func documentFindings(text string, targets []string) []string {
	var found []string
	for line := range strings.Lines(text) {
		for _, match := range namedPath.FindAllStringSubmatch(line, -1) {
			path := strings.TrimRight(match[1], ".")
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				found = append(found, fmt.Sprintf("it names %s, which does not exist", path))
			}
		}
		for _, match := range namedTarget.FindAllStringSubmatch(line, -1) {
			for target := range strings.FieldsSeq(match[1]) {
				if !slices.Contains(targets, target) {
					found = append(found, fmt.Sprintf("it names make %s, which is no target", target))
				}
			}
		}
	}
	return found
}
