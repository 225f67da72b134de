package main

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/testnet/guide"
)

// errNoCommand is of words that name a group of commands, or nothing.
var errNoCommand = errors.New("no command")

// TestGuides: commands of ours in the guides are commands of ours, with flags that they have, and
// are the same in every language. That they do what is said there is the test cluster's to see.
func TestGuides(t *testing.T) {
	for name, least := range map[string]int{"adopt": 15, "install": 4, "observe": 15, "troubleshoot": 5} {
		english := read(t, "../../docs/"+name+".md")
		got, want := guide.Lines(read(t, "../../docs/zh/"+name+".md")), guide.Lines(english)
		if !slices.Equal(got, want) {
			t.Errorf("docs/zh/%[1]s.md has other commands:\n%[2]s\nthan docs/%[1]s.md:\n%[3]s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		ours := 0
		for i := range english {
			words := own(english[i].Words())
			if words == nil {
				continue
			}
			ours++
			if err := wellFormed(words); err != nil {
				t.Errorf("docs/%s.md: %s: %v", name, english[i].Line, err)
			}
		}
		if ours < least {
			t.Errorf("docs/%s.md: %d commands are ours: this test looks at nothing", name, ours)
		}
	}
}

func TestGuidesCanFail(t *testing.T) {
	for line, want := range map[string]string{
		"kubectl dubway statis":                                   "unknown command",
		"kubectl dubway status --every-node":                      "unknown flag",
		"dubwayctl explain --to 10.0.0.1:1":                       "at least one of the flags",
		"kubectl dubway accesslog 1 2":                            "accepts at most 1 arg",
		"kubectl -n shop exec deployment/a -- dubwayctl echo cal": "no command",
		"kubectl exec -n shop a -- dubwayctl status":              "",
	} {
		c := guide.Command{Line: line}
		err := wellFormed(own(c.Words()))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func read(t *testing.T, path string) []guide.Command {
	t.Helper()
	commands, err := guide.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return commands
}

// own are the words of a command of dubwayctl's, also as kubectl's plugin and within a pod;
// nil for other commands.
func own(words []string) []string {
	switch {
	case words[0] == "dubwayctl":
		return words[1:]
	case words[0] == "kubectl" && words[1] == "dubway":
		return words[2:]
	}
	if at := slices.Index(words, "--"); at >= 0 && words[0] == "kubectl" && words[at+1] == "dubwayctl" {
		return words[at+2:]
	}
	return nil
}

// wellFormed tells whether cobra would run a command.
func wellFormed(words []string) error {
	root := newCommand(&env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard})
	c, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if c.RunE == nil {
		return errNoCommand
	}
	if err := c.ValidateArgs(c.Flags().Args()); err != nil {
		return err
	}
	if err := c.ValidateRequiredFlags(); err != nil {
		return err
	}
	return c.ValidateFlagGroups()
}
