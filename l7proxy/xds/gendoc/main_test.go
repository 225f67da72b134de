package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/dubway/dubway/l7proxy/xds"
)

const document = "../../../docs/xds.md"

func TestPageIsCurrent(t *testing.T) {
	want, err := page()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/xds.md is not what gendoc prints: run `go run ./l7proxy/xds/gendoc docs/xds.md`")
	}
}

// TestExamples loads every YAML block of the page.
func TestExamples(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatal("the page has no example")
	}
	for i, b := range blocks {
		path := filepath.Join(t.TempDir(), "example.yaml")
		if err := os.WriteFile(path, b[1], 0o644); err != nil {
			t.Fatal(err)
		}
		s, rejected := xds.Load([]string{path})
		for _, r := range rejected {
			t.Errorf("example %d: %s %s: %s: %s", i, r.Kind, r.Name, r.Field, r.Reason)
		}
		all := s.Listeners
		for _, in := range s.Inbounds {
			all = append(all, in.Plain)
		}
		if len(all) == 0 || all[0].Route == nil {
			t.Errorf("example %d: no listener, or one without its route", i)
		}
		for name, c := range s.Clusters {
			if len(c.Localities) == 0 {
				t.Errorf("example %d: cluster %s has no endpoints", i, name)
			}
		}
	}
}
