package main

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestAdopt: the commands of docs/adopt.md are commands of ours, with flags that they have, and
// are the same in every language. That they do what is said there is the test cluster's to see.
func TestAdopt(t *testing.T) {
	english := commands(t, "../../docs/adopt.md")
	if chinese := commands(t, "../../docs/zh/adopt.md"); !slices.Equal(english, chinese) {
		t.Errorf("docs/zh/adopt.md has other commands:\n%s\nthan docs/adopt.md:\n%s", strings.Join(chinese, "\n"), strings.Join(english, "\n"))
	}
	ours := 0
	for _, line := range english {
		words := split(line)
		switch {
		case words[0] == "dubwayctl":
			words = words[1:]
		case words[0] == "kubectl" && words[1] == "dubway":
			words = words[2:]
		default:
			continue
		}
		ours++
		if at := slices.Index(words, ">"); at >= 0 {
			words = words[:at]
		}
		root := newCommand(&env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard})
		c, rest, err := root.Find(words)
		if err == nil {
			err = c.ParseFlags(rest)
		}
		if err == nil {
			err = c.ValidateArgs(c.Flags().Args())
		}
		if err == nil {
			err = c.ValidateRequiredFlags()
		}
		if err != nil || c.RunE == nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if ours < 15 {
		t.Errorf("%d commands are ours: this test looks at nothing", ours)
	}
}

// commands are the lines of a document's blocks of sh.
func commands(t *testing.T, path string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, block := range strings.Split(string(text), "```") {
		if body, shell := strings.CutPrefix(block, "sh\n"); shell && i%2 == 1 {
			lines = append(lines, strings.Split(strings.TrimSpace(body), "\n")...)
		}
	}
	return lines
}

// split takes a line apart as a shell does that knows single quotes alone.
func split(line string) (words []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}
