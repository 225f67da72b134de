// Package image writes container images without Docker: one layer of plain files, as the
// archive that `docker save` makes and every runtime imports.
package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// Image is an image to be, for the architecture of this machine.
type Image struct {
	Name       string            // with its tag
	Files      map[string]string // paths in the image, without a leading slash, to files or directories of this machine
	Empty      []string          // directories without files, the same
	Entrypoint []string
	Env        []string
	User       string // UID:GID; root when empty
}

// epoch is when every file was made: an archive's bytes follow from its files alone.
var epoch = time.Unix(0, 0) //nolint:gochecknoglobals // a constant that Go cannot say

// Write writes the image's archive.
func (i *Image) Write(to string) error {
	if err := i.write(to); err != nil {
		return fmt.Errorf("write image %s: %w", i.Name, err)
	}
	return nil
}

func (i *Image) write(to string) (err error) {
	layer, err := os.CreateTemp(filepath.Dir(to), ".layer-*")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	sum := sha256.New()
	if err := i.layer(io.MultiWriter(layer, sum)); err != nil {
		return err
	}
	size, err := layer.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return err
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": epoch.UTC(),
		"config": map[string]any{"Entrypoint": i.Entrypoint, "Env": i.Env, "User": i.User},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest}},
	})
	if err != nil {
		return err
	}
	named := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]any{map[string]any{"Config": named, "RepoTags": []string{i.Name}, "Layers": []string{digest + ".tar"}}})
	if err != nil {
		return err
	}
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	archive := tar.NewWriter(file)
	for _, part := range []struct{ name, text string }{{"manifest.json", string(manifest)}, {named, string(config)}} {
		if err := archive.WriteHeader(&tar.Header{Name: part.name, Size: int64(len(part.text)), Mode: 0o644, ModTime: epoch}); err != nil {
			return err
		}
		if _, err := io.WriteString(archive, part.text); err != nil {
			return err
		}
	}
	if err := archive.WriteHeader(&tar.Header{Name: digest + ".tar", Size: size, Mode: 0o644, ModTime: epoch}); err != nil {
		return err
	}
	if _, err := io.Copy(archive, layer); err != nil {
		return err
	}
	return archive.Close()
}

// layer writes the files, each directory before what is in it.
func (i *Image) layer(to io.Writer) error {
	l := &layer{tar: tar.NewWriter(to), made: map[string]bool{".": true}}
	for _, name := range slices.Sorted(maps.Keys(i.Files)) {
		if err := l.add(name, i.Files[name]); err != nil {
			return err
		}
	}
	for _, name := range i.Empty {
		if err := l.parents(name + "/."); err != nil {
			return err
		}
	}
	return l.tar.Close()
}

// layer is the archive of a layer that is being written.
type layer struct {
	tar  *tar.Writer
	made map[string]bool // directories
}

// add writes a file or a directory with all in it. Links are followed.
func (l *layer) add(name, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return l.file(name, from, info)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := l.add(path.Join(name, entry.Name()), filepath.Join(from, entry.Name())); err != nil {
			return err
		}
	}
	return l.parents(name + "/.")
}

func (l *layer) file(name, from string, info fs.FileInfo) error {
	if err := l.parents(name); err != nil {
		return err
	}
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	if err := l.tar.WriteHeader(&tar.Header{Name: name, Size: info.Size(), Mode: mode, ModTime: epoch}); err != nil {
		return err
	}
	_, err = io.Copy(l.tar, file)
	return err
}

// parents writes the directories above a name that are not there yet.
func (l *layer) parents(name string) error {
	dir := path.Dir(name)
	if l.made[dir] {
		return nil
	}
	l.made[dir] = true
	if err := l.parents(dir); err != nil {
		return err
	}
	return l.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: epoch})
}
