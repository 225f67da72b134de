package demo

import (
	"bytes"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dubway/dubway/l7proxy/xds"
)

// TestFiles takes the demo through its configurations: none may be rejected.
func TestFiles(t *testing.T) {
	steps, err := files.ReadDir("steps")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range append([]string{""}, names(steps)...) {
		dir := t.TempDir()
		entries, err := files.ReadDir("xds")
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			source := path.Join("xds", entry.Name())
			if step != "" && entry.Name() == routesFile {
				source = path.Join("steps", step)
			}
			content, err := files.ReadFile(source)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, entry.Name()), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		loaded, rejected := xds.Load([]string{dir})
		if len(rejected) > 0 {
			t.Errorf("%s: %+v", step, rejected)
		}
		if len(loaded.Listeners) != 1 || loaded.Listeners[0].Route == nil {
			t.Errorf("%s: the listener has no routes", step)
		}
	}
}

func names(entries []os.DirEntry) []string {
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

func TestTally(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	r := reader{path: file}
	write := func(text string) {
		t.Helper()
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write("10:00:00 browse v1 500\n10:00:00 browse v1 500\n10:00:00 browse v2 500\n10:00:00 checkout v2 5\n" +
		"10:00:01 browse error \"no connection\"\n10:00:01 bro")
	seen, err := r.read()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := seen.String(), "   5 calls: v1 2 (50 %), v2 2 (50 %), 1 failed"; got != want {
		t.Errorf("tally is %q, want %q", got, want)
	}
	if got, want := seen.shares("browse"), "v1 2 (67 %), v2 1 (33 %)"; got != want {
		t.Errorf("browse is %q, want %q", got, want)
	}
	if !share(seen, "browse", 0.3, 0.4) || share(seen, "checkout", 0, 0.9) {
		t.Error("share is not v2's part")
	}
	write("wse v2 7\n")
	if seen, err = r.read(); err != nil || seen.total() != 1 || seen.failed != 0 {
		t.Errorf("the line written in two parts is %+v, %v", seen, err)
	}
	if got := seen.shares("checkout"); got != "nobody answered" {
		t.Errorf("no calls are %q", got)
	}
}

func TestChanges(t *testing.T) {
	got := changes("a\nb\nc\nd\n", "a\nB\nB2\nd\n")
	if want := []string{"- b", "- c", "+ B", "+ B2"}; !slices.Equal(got, want) {
		t.Errorf("changes = %q, want %q", got, want)
	}
	if got := changes("a\n", "a\n"); len(got) != 0 {
		t.Errorf("changes of equal files = %q", got)
	}
}

func TestShorten(t *testing.T) {
	sample := `istio_requests_total{reporter="source",dubbo_method="browse",destination_version="v1"} 12` + "\n"
	if got, want := shorten(sample), `{dubbo_method="browse",destination_version="v1"} 12`; got != want {
		t.Errorf("shorten = %q, want %q", got, want)
	}
}

func TestAllowed(t *testing.T) {
	var out bytes.Buffer
	s := &stage{out: &out}
	if err := s.allowed(1000); !errors.Is(err, ErrUnable) {
		t.Errorf("allowed = %v, want ErrUnable", err)
	}
	if !bytes.Contains(out.Bytes(), []byte("90 % to v1, 10 % to v2")) {
		t.Errorf("it told %q", out.String())
	}
	if err := s.allowed(0); err != nil {
		t.Errorf("allowed = %v for root", err)
	}
}
