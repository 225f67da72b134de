package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/version"
)

// archive is an image of one layer.
type archive struct {
	arch, tag string
	files     []entry
}

// then is the time of everything: a real one would make other bytes each time.
var then = time.Unix(0, 0).UTC()

// manifest says what the files of a docker-archive are: an image that has names, its
// configuration and its layers from below.
// (https://github.com/moby/docker-image-spec/blob/main/v1.2.md)
type manifest struct {
	Config   string   `json:"Config"`   //nolint:tagliatelle // Docker's
	RepoTags []string `json:"RepoTags"` //nolint:tagliatelle // the same
	Layers   []string `json:"Layers"`   //nolint:tagliatelle // the same
}

// configuration is the image's, in the words of OCI's image specification, which are
// Docker's too. It has no user and no entry point: the pod says which program runs as whom.
type configuration struct {
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Created      time.Time `json:"created"`
	Config       struct {
		Env    []string          `json:"Env"`    //nolint:tagliatelle // OCI's
		Labels map[string]string `json:"Labels"` //nolint:tagliatelle // OCI's
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"` //nolint:tagliatelle // OCI's
	} `json:"rootfs"`
	History []history `json:"history"`
}

type history struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"` //nolint:tagliatelle // OCI's
}

// write writes a docker-archive.
func (a *archive) write(w io.Writer) error {
	layer, err := pack(a.files)
	if err != nil {
		return err
	}
	digest := hexOf(layer)
	var c configuration
	c.Architecture, c.OS, c.Created = a.arch, "linux", then
	c.Config.Env = []string{"PATH=/usr/bin"}
	c.Config.Labels = map[string]string{
		"org.opencontainers.image.title":       "dubway",
		"org.opencontainers.image.description": "Sidecarless service mesh for Dubbo: agent, proxy, CNI plugin and dubwayctl",
		"org.opencontainers.image.version":     version.Version,
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.source":      "https://github.com/dubway/dubway",
	}
	c.RootFS.Type, c.RootFS.DiffIDs = "layers", []string{"sha256:" + digest}
	c.History = []history{{then, "deploy/image"}}
	config, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	m := manifest{Config: hexOf(config) + ".json", RepoTags: []string{a.tag}, Layers: []string{digest + "/layer.tar"}}
	list, err := json.Marshal([]manifest{m})
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	image, err := pack([]entry{
		{path: m.Config, mode: 0o644, content: config},
		{path: path.Dir(m.Layers[0]) + "/", mode: 0o755},
		{path: m.Layers[0], mode: 0o644, content: layer},
		{path: "manifest.json", mode: 0o644, content: list},
	})
	if err != nil {
		return err
	}
	if _, err := w.Write(image); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// pack makes a tar of files, as they stand.
func pack(files []entry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{
			Name: f.path, Mode: f.mode, Size: int64(len(f.content)), Typeflag: tar.TypeReg,
			ModTime: then, Format: tar.FormatUSTAR,
		}
		if strings.HasSuffix(f.path, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.path, err)
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return b.Bytes(), nil
}

func hexOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
