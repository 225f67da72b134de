// Command image makes Dubway's image without Docker: the static binaries of cmd/ and two
// files that name the users, nothing else. What it writes (package archive) is a docker-archive, which
// `ctr -n k8s.io images import` and `docker load` take; the same sources make the same
// bytes, whoever makes them, when and where. deploy/image/Dockerfile has it write the same
// files as a folder.
//
//	go run ./deploy/image -o build/dubway-image-amd64.tar -arch amd64 -tag dubway:0.1.0
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/dubway/dubway/deploy/image/archive"
	"github.com/dubway/dubway/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	output, rootfs string
	arch, tag      string
	binaries       string
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.StringVar(&o.output, "o", "", "file of the docker-archive")
	flags.StringVar(&o.rootfs, "rootfs", "", "new folder for the image's files, in place of an archive")
	flags.StringVar(&o.arch, "arch", runtime.GOARCH, "amd64 or arm64")
	flags.StringVar(&o.tag, "tag", "dubway:"+version.Version, "NAME:TAG of the image")
	flags.StringVar(&o.binaries, "binaries", "", "folder of binaries to put in, in place of those of ./cmd/...")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("read flags: %w", err)
	}
	if (o.output == "") == (o.rootfs == "") || flags.NArg() > 0 {
		return errors.New("say where the image goes: either -o FILE or -rootfs FOLDER, and nothing beside flags")
	}
	if o.binaries == "" {
		dir, err := os.MkdirTemp("", "dubway-image-")
		if err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if err := build(ctx, dir, o.arch); err != nil {
			return err
		}
		o.binaries = dir
	}
	files, err := rootfs(o.binaries, o.arch)
	if err != nil {
		return err
	}
	if o.rootfs != "" {
		return unpack(files, o.rootfs)
	}
	if err := image(&o, files).Write(o.output); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "made %s: %s for %s\n", o.output, o.tag, o.arch)
	if err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}

// build builds every command of the module into a folder. The stamp of the checkout is left
// out: it would make other bytes of the same sources.
func build(ctx context.Context, dir, arch string) error {
	args := []string{
		"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w",
		"-o", dir + string(filepath.Separator), "./cmd/...", // a folder, for several programs
	}
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // the folder is ours
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the binaries (in the checkout's root?): %w\n%s", err, text)
	}
	return nil
}

// image is Dubway's. It has no user and no entry point: the pod says which program runs as whom.
func image(o *options, files []archive.File) *archive.Image {
	return &archive.Image{
		Name: o.tag, Arch: o.arch, Files: files, Env: []string{"PATH=/usr/bin"},
		Labels: map[string]string{
			"org.opencontainers.image.title":       "dubway",
			"org.opencontainers.image.description": "Sidecarless service mesh for Dubbo: agent, proxy, CNI plugin and dubwayctl",
			"org.opencontainers.image.version":     version.Version,
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.source":      "https://github.com/dubway/dubway",
		},
	}
}
