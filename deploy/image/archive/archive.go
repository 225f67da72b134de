// Package archive writes container images without Docker: one layer of files that are owned by
// root, as the archive that `docker save` makes and every runtime imports. The same files make
// the same bytes, whoever writes them, when and where. deploy/image makes Dubway's image with
// it, the test cluster those of its pods.
package archive

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Image is an image to be.
type Image struct {
	Name       string // NAME:TAG
	Arch       string // as GOARCH
	Files      []File // in the order in which they are written; folders that are not listed go before what is in them
	Entrypoint []string
	Env        []string
	Labels     map[string]string
	User       string // UID:GID; root when empty
}

// Epoch is when everything was made: a real time would make other bytes each time.
var Epoch = time.Unix(0, 0).UTC() //nolint:gochecknoglobals // a constant that Go cannot say

// Manifest says what the files of an archive are: an image that has names, its configuration and
// its layers from below. (https://github.com/moby/docker-image-spec/blob/main/v1.2.md)
type Manifest struct {
	Config   string   `json:"Config"`   //nolint:tagliatelle // Docker's
	RepoTags []string `json:"RepoTags"` //nolint:tagliatelle // the same
	Layers   []string `json:"Layers"`   //nolint:tagliatelle // the same
}

// Configuration is an image's, in the words of OCI's image specification, which are Docker's too.
type Configuration struct {
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Created      time.Time `json:"created"`
	Config       struct {
		User       string            `json:"User,omitempty"`       //nolint:tagliatelle // OCI's
		Env        []string          `json:"Env,omitempty"`        //nolint:tagliatelle // the same
		Entrypoint []string          `json:"Entrypoint,omitempty"` //nolint:tagliatelle // the same
		Labels     map[string]string `json:"Labels,omitempty"`     //nolint:tagliatelle // the same
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"` //nolint:tagliatelle // OCI's
	} `json:"rootfs"`
	History []History `json:"history"`
}

// History is how a layer was made.
type History struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"` //nolint:tagliatelle // OCI's
}

// Write writes the image's archive beside its place and moves it there: nobody reads half of one.
// Folders above it are made.
func (i *Image) Write(path string) error {
	if err := i.write(path); err != nil {
		return fmt.Errorf("write image %s: %w", i.Name, err)
	}
	return nil
}

func (i *Image) write(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	// A layer is named by its content, and comes behind its name: it is written twice.
	layer, err := os.CreateTemp(dir, ".layer-*")
	if err != nil {
		return fmt.Errorf("make layer: %w", err)
	}
	defer func() { _ = errors.Join(layer.Close(), os.Remove(layer.Name())) }()
	sum := sha256.New()
	if err := pack(io.MultiWriter(layer, sum), i.Files); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, ".image-*")
	if err != nil {
		return fmt.Errorf("make archive: %w", err)
	}
	defer func() { _ = os.Remove(file.Name()) }() // it is gone if all went well
	if err := errors.Join(i.join(file, layer.Name(), hexOf(sum)), file.Chmod(0o644), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("move archive: %w", err)
	}
	return nil
}

// join writes the archive of a layer in a file.
func (i *Image) join(to io.Writer, layer, digest string) error {
	var c Configuration
	c.Architecture, c.OS, c.Created = i.Arch, "linux", Epoch
	c.Config.User, c.Config.Env, c.Config.Entrypoint, c.Config.Labels = i.User, i.Env, i.Entrypoint, i.Labels
	c.RootFS.Type, c.RootFS.DiffIDs = "layers", []string{"sha256:" + digest}
	c.History = []History{{Epoch, "deploy/image"}}
	config, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	sum := sha256.New()
	_, _ = sum.Write(config) // no hash fails
	m := Manifest{Config: hexOf(sum) + ".json", RepoTags: []string{i.Name}, Layers: []string{digest + "/layer.tar"}}
	list, err := json.Marshal([]Manifest{m})
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return pack(to, []File{
		{Path: m.Config, Mode: 0o644, Content: config},
		{Path: m.Layers[0], Mode: 0o644, From: layer},
		{Path: "manifest.json", Mode: 0o644, Content: list},
	})
}

// pack makes a tar of files.
func pack(to io.Writer, files []File) error {
	w := tar.NewWriter(to)
	made := map[string]bool{}
	for _, f := range files {
		for _, folder := range f.above() {
			if !made[folder] {
				made[folder] = true
				if err := header(w, File{Path: folder, Mode: 0o755}, 0); err != nil {
					return err
				}
			}
		}
		if made[f.Path] {
			continue
		}
		made[f.Path] = true
		if err := put(w, f); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	return nil
}

// put writes one file.
func put(w *tar.Writer, f File) error {
	content, size, err := f.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	if err := header(w, f, size); err != nil {
		return err
	}
	if _, err := io.Copy(w, content); err != nil {
		return fmt.Errorf("pack %s: %w", f.Path, err)
	}
	return nil
}

func header(w *tar.Writer, f File, size int64) error {
	h := &tar.Header{Name: f.Path, Mode: f.Mode, Size: size, Typeflag: tar.TypeReg, ModTime: Epoch, Format: tar.FormatUSTAR}
	if f.Folder() {
		h.Typeflag = tar.TypeDir
	}
	if err := w.WriteHeader(h); err != nil {
		return fmt.Errorf("pack %s: %w", f.Path, err)
	}
	return nil
}

func hexOf(sum hash.Hash) string { return hex.EncodeToString(sum.Sum(nil)) }
