package archive_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dubway/dubway/deploy/image/archive"
)

// TestWrite reads an archive as a runtime does: the manifest names the others.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	for name, mode := range map[string]os.FileMode{"program": 0o755, "tree/a/b": 0o600} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	files, err := archive.Copy(map[string]string{"usr/bin/program": program, "tree": filepath.Join(dir, "tree")})
	if err != nil {
		t.Fatal(err)
	}
	own := archive.Image{
		Name: "test/a:1", Arch: "amd64", Files: append(files, archive.File{Path: "run/empty/", Mode: 0o700}),
		Entrypoint: []string{"/usr/bin/program"}, User: "65532:65532",
	}
	first, second := filepath.Join(dir, "new", "first.tar"), filepath.Join(dir, "second.tar")
	if err := errors.Join(own.Write(first), own.Write(second)); err != nil {
		t.Fatal(err)
	}
	image := read(t, first)
	if !maps.EqualFunc(image, read(t, second), bytes.Equal) {
		t.Error("the same image has other bytes")
	}
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(image["manifest.json"], &manifest); err != nil || len(manifest) != 1 || len(manifest[0].Layers) != 1 {
		t.Fatalf("the manifest is %s (%v)", image["manifest.json"], err)
	}
	var config struct {
		Config struct {
			Entrypoint []string
			User       string
		}
	}
	if err := json.Unmarshal(image[manifest[0].Config], &config); err != nil || config.Config.User != "65532:65532" || config.Config.Entrypoint[0] != "/usr/bin/program" {
		t.Errorf("the configuration is %s (%v)", image[manifest[0].Config], err)
	}
	layer := entries(t, image[manifest[0].Layers[0]])
	names := slices.Sorted(maps.Keys(layer))
	if want := []string{"run/", "run/empty/", "tree/", "tree/a/", "tree/a/b", "usr/", "usr/bin/", "usr/bin/program"}; !slices.Equal(names, want) {
		t.Errorf("the layer has %q, want %q", names, want)
	}
	if layer["usr/bin/program"] != 0o755 || layer["tree/a/b"] != 0o644 || layer["run/"] != 0o755 || layer["run/empty/"] != 0o700 {
		t.Errorf("modes are %v", layer)
	}
}

// TestWriteFails: what is not there is named, and nothing is left.
func TestWriteFails(t *testing.T) {
	nothing := map[string]string{"a": filepath.Join(t.TempDir(), "nothing")}
	if _, err := archive.Copy(nothing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error of a copy is %v", err)
	}
	dir := t.TempDir()
	own := archive.Image{Name: "test/a:1", Files: []archive.File{{Path: "a", From: nothing["a"]}}}
	if err := own.Write(filepath.Join(dir, "a.tar")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v (%v)", left, err)
	}
}

func read(t *testing.T, path string) map[string][]byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	files := map[string][]byte{}
	for r := tar.NewReader(file); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// entries are the modes of a layer's files, by name, and fails where a directory comes after
// what is in it.
func entries(t *testing.T, layer []byte) map[string]int64 {
	t.Helper()
	modes := map[string]int64{}
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return modes
		}
		if err != nil {
			t.Fatal(err)
		}
		if parent := filepath.Dir(filepath.Clean(header.Name)) + "/"; parent != "./" && modes[parent] == 0 {
			t.Errorf("%s comes before its directory", header.Name)
		}
		modes[header.Name] = header.Mode
	}
}
