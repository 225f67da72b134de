package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDockerfile: what the Dockerfile says of its own accord is what the archive says, and its
// compiler is the module's.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	dockerfile := string(text)
	module, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	release := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(module)
	if release == nil || !strings.Contains(dockerfile, "golang:"+string(release[1])+" AS build") {
		t.Errorf("the compiler is not Go %s", release)
	}
	own := image(&options{arch: "amd64", tag: "dubway:test"}, nil)
	for _, variable := range own.Env {
		if !strings.Contains(dockerfile, "\nENV "+variable+"\n") {
			t.Errorf("it lacks ENV %s", variable)
		}
	}
	labels := regexp.MustCompile(`(org\.opencontainers\.image\.\w+)="([^"]*)"`).FindAllStringSubmatch(dockerfile, -1)
	if len(labels) < 3 {
		t.Errorf("it has the labels %q", labels)
	}
	for _, label := range labels {
		if own.Labels[label[1]] != label[2] {
			t.Errorf("its label %s is %q, the archive's %q", label[1], label[2], own.Labels[label[1]])
		}
	}
	for _, word := range []string{"USER", "ENTRYPOINT", "CMD"} {
		if strings.Contains(dockerfile, "\n"+word+" ") {
			t.Errorf("it has %s, which is the pod's to say", word)
		}
	}
}
