package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dubway/dubway/deploy/image/archive"
)

// required are binaries without which the chart's pods do not start.
var required = []string{"dubway-agent", "dubway-proxy", "dubwayctl"}

// machines are the processors that there are images for.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// The users: the agent is root, whatever parses what pods send is nonroot. Nothing runs a
// shell, there is none. There is no certificate either: whom to trust is mounted.
const (
	users  = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
	groups = "root:x:0:\nnonroot:x:65532:\n"
)

// rootfs returns what is in the image, in the order of paths, with the binaries of a folder.
func rootfs(binaries, arch string) ([]archive.File, error) {
	list, err := os.ReadDir(binaries)
	if err != nil {
		return nil, fmt.Errorf("read binaries: %w", err)
	}
	// /tmp is there for whoever runs it without the chart, whose root is read-only.
	all := []archive.File{
		{Path: "etc/", Mode: 0o755},
		{Path: "etc/group", Mode: 0o644, Content: []byte(groups)},
		{Path: "etc/passwd", Mode: 0o644, Content: []byte(users)},
		{Path: "run/", Mode: 0o755},
		{Path: "tmp/", Mode: 0o1777},
		{Path: "usr/", Mode: 0o755},
		{Path: "usr/bin/", Mode: 0o755},
	}
	missing := slices.Clone(required)
	for _, f := range list {
		path := filepath.Join(binaries, f.Name())
		if err := static(path, arch); err != nil {
			return nil, fmt.Errorf("use %s: %w", path, err)
		}
		all = append(all, archive.File{Path: "usr/bin/" + f.Name(), Mode: 0o755, From: path})
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == f.Name() })
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("read binaries: %s has no %s", binaries, strings.Join(missing, ", "))
	}
	return all, nil
}

// static tells why a file cannot run in the image: there is no dynamic linker in it.
func static(path, arch string) error {
	machine, ok := machines[arch]
	if !ok {
		return fmt.Errorf("there is no image for %q: say amd64 or arm64", arch)
	}
	file, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("read program: %w", err)
	}
	defer file.Close()
	if file.Machine != machine {
		return fmt.Errorf("it is for %s, not for %s", file.Machine, arch)
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("it is linked dynamically: build it with CGO_ENABLED=0")
		}
	}
	return nil
}

// unpack writes the files into a new folder.
func unpack(files []archive.File, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Path)
		var err error
		if f.Folder() {
			err = os.Mkdir(path, 0o755)
		} else {
			err = unpackFile(f, path)
		}
		mode := os.FileMode(f.Mode & 0o777)
		if f.Mode&0o1000 != 0 {
			mode |= os.ModeSticky
		}
		// Whatever the umask was.
		if err := errors.Join(err, os.Chmod(path, mode)); err != nil {
			return fmt.Errorf("write files: %w", err)
		}
	}
	return nil
}

func unpackFile(f archive.File, path string) error {
	content, _, err := f.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}
