package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dubway/dubway/deploy/image/archive"
)

// program builds a small program for a processor into a folder, under the names of the
// required ones.
func program(t *testing.T, arch, source string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	built := filepath.Join(dir, "program")
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"build"}, flags...), "-o", built, filepath.Join(dir, "main.go"))...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	content, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	binaries := t.TempDir()
	for _, name := range required {
		if err := os.WriteFile(filepath.Join(binaries, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return binaries
}

const nothing = "package main\n\nfunc main() {}\n"

// untar reads an archive: its files' contents, and how each is listed.
func untar(t *testing.T, content []byte) (files map[string][]byte, list []string) {
	t.Helper()
	files = map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(content)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, list
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%o %d:%d %d %s", h.Mode, h.Uid, h.Gid, h.ModTime.Unix(), h.Name))
	}
}

func sum(content []byte) string { return fmt.Sprintf("%x", sha256.Sum256(content)) }

// TestArchive reads an image as a container runtime does: every digest is followed.
func TestArchive(t *testing.T) {
	for arch := range machines {
		t.Run(arch, func(t *testing.T) {
			binaries := program(t, arch, nothing)
			path := filepath.Join(t.TempDir(), "new", "image.tar")
			if err := run(t.Context(), []string{"-o", path, "-arch", arch, "-tag", "dubway:test", "-binaries", binaries}, io.Discard); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files, list := untar(t, content)
			if len(list) != 4 {
				t.Errorf("the archive has %q, want a configuration, a layer in its folder and a manifest", list)
			}
			var manifests []archive.Manifest
			if err := json.Unmarshal(files["manifest.json"], &manifests); err != nil || len(manifests) != 1 {
				t.Fatalf("manifest %s: %v", files["manifest.json"], err)
			}
			m := manifests[0]
			if !slices.Equal(m.RepoTags, []string{"dubway:test"}) || len(m.Layers) != 1 {
				t.Errorf("manifest %+v", m)
			}
			config, layer := files[m.Config], files[m.Layers[0]]
			var c archive.Configuration
			if err := json.Unmarshal(config, &c); err != nil {
				t.Fatal(err)
			}
			if m.Config != sum(config)+".json" || !slices.Equal(c.RootFS.DiffIDs, []string{"sha256:" + sum(layer)}) {
				t.Errorf("digests: %s names a configuration of %s; %q a layer of %s", m.Config, sum(config), c.RootFS.DiffIDs, sum(layer))
			}
			if c.Architecture != arch || c.OS != "linux" || len(c.History) != 1 || !slices.Contains(c.Config.Env, "PATH=/usr/bin") {
				t.Errorf("configuration %s", config)
			}
			for _, key := range []string{"User", "Entrypoint", "Cmd"} {
				if strings.Contains(string(config), `"`+key+`"`) {
					t.Errorf("the configuration has %s, which is the pod's to say: %s", key, config)
				}
			}
			inside, list := untar(t, layer)
			want := []string{
				"755 0:0 0 etc/", "644 0:0 0 etc/group", "644 0:0 0 etc/passwd", "755 0:0 0 run/", "1777 0:0 0 tmp/",
				"755 0:0 0 usr/", "755 0:0 0 usr/bin/",
				"755 0:0 0 usr/bin/dubway-agent", "755 0:0 0 usr/bin/dubway-proxy", "755 0:0 0 usr/bin/dubwayctl",
			}
			if !slices.Equal(list, want) {
				t.Errorf("the layer has\n%s\nwant\n%s", strings.Join(list, "\n"), strings.Join(want, "\n"))
			}
			given, err := os.ReadFile(filepath.Join(binaries, "dubwayctl"))
			if err != nil || !bytes.Equal(inside["usr/bin/dubwayctl"], given) {
				t.Errorf("dubwayctl is not what was put in (%v)", err)
			}
		})
	}
}

// TestReproducible: the same files make the same bytes, whenever and as whomever.
func TestReproducible(t *testing.T) {
	binaries := program(t, "amd64", nothing)
	var images [2][]byte
	for i := range images {
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := run(t.Context(), []string{"-o", path, "-arch", "amd64", "-binaries", binaries}, io.Discard); err != nil {
			t.Fatal(err)
		}
		var err error
		if images[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		// Nothing of the files but their content may be seen.
		if err := errors.Join(os.Chmod(filepath.Join(binaries, "dubwayctl"), 0o700), os.Chtimes(filepath.Join(binaries, "dubwayctl"), archive.Epoch, archive.Epoch)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two images of the same files differ")
	}
}

// TestRootfs: the folder has what the archive's layer has.
func TestRootfs(t *testing.T) {
	binaries := program(t, "amd64", nothing)
	dir := filepath.Join(t.TempDir(), "rootfs")
	if err := run(t.Context(), []string{"-rootfs", dir, "-arch", "amd64", "-binaries", binaries}, io.Discard); err != nil {
		t.Fatal(err)
	}
	files, err := rootfs(binaries, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := os.Stat(filepath.Join(dir, f.Path))
		if err != nil {
			t.Error(err)
			continue
		}
		mode := int64(info.Mode().Perm())
		if info.Mode()&os.ModeSticky != 0 {
			mode |= 0o1000
		}
		if mode != f.Mode || info.IsDir() != f.Folder() {
			t.Errorf("%s has mode %o, want %o", f.Path, mode, f.Mode)
		}
		if info.IsDir() {
			continue
		}
		given, _, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(given)
		content, wrong := os.ReadFile(filepath.Join(dir, f.Path))
		if err := errors.Join(err, wrong, given.Close()); err != nil || !bytes.Equal(content, want) {
			t.Errorf("%s has other content (%v)", f.Path, err)
		}
	}
}

// TestRefusals: what could not run is not put into an image.
func TestRefusals(t *testing.T) {
	good := program(t, "amd64", nothing)
	script := t.TempDir()
	if err := os.WriteFile(filepath.Join(script, "dubwayctl"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"another processor", []string{"-o", "x", "-arch", "arm64", "-binaries", good}, "it is for EM_X86_64, not for arm64"},
		{"no such processor", []string{"-o", "x", "-arch", "riscv64", "-binaries", good}, `no image for "riscv64": say amd64 or arm64`},
		{"a dynamic program", []string{"-o", "x", "-arch", "amd64", "-binaries", program(t, "amd64", nothing, "-buildmode=pie")}, "linked dynamically: build it with CGO_ENABLED=0"},
		{"no program", []string{"-o", "x", "-binaries", script}, "read program"},
		{"nothing", []string{"-o", "x", "-binaries", t.TempDir()}, "has no dubway-agent, dubway-proxy, dubwayctl"},
		{"nowhere to go", []string{"-arch", "amd64"}, "say where the image goes"},
		{"two places to go", []string{"-o", "x", "-rootfs", "y"}, "say where the image goes"},
	}
	t.Chdir(t.TempDir())
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := run(t.Context(), test.args, io.Discard); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("run = %v, want %q in it", err, test.want)
			}
		})
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("refusals left %v (%v)", left, err)
	}
}
