package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// rooms are the packages whose tests say whether a kernel is good enough: they load and
// attach everything that is in package bpf, by the agent's own code.
var rooms = []string{"bpf", "agent/datapath/...", "agent/netns", "agent/enroll", "agent/reach/..."}

const module = "github.com/dubway/dubway"

// suite are the tests that a machine is given, and what it must say of them.
type suite struct {
	root  string              // a directory that becomes the machine's root
	tests map[string][]string // top-level tests, by package
	left  []string            // folders of tests in root that are not packed
}

// build compiles the machine's first process and the tests into root.
func build(ctx context.Context, root string) (*suite, error) {
	s := &suite{root: root, tests: map[string][]string{}}
	if err := os.MkdirAll(filepath.Join(root, "modules"), 0o755); err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	if _, err := goTool(ctx, "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(root, "init"), module+"/internal/testnet/kernels/guest"); err != nil {
		return nil, err
	}
	args := []string{"list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}"}
	for _, room := range rooms {
		args = append(args, module+"/"+room)
	}
	listed, err := goTool(ctx, args...)
	if err != nil {
		return nil, err
	}
	for text := range strings.Lines(listed) {
		path, dir, ok := strings.Cut(strings.TrimSpace(text), " ")
		if !ok {
			continue
		}
		if err := s.add(ctx, strings.TrimPrefix(path, module+"/"), dir); err != nil {
			return nil, err
		}
	}
	if len(s.tests) == 0 {
		return nil, errors.New("no package has tests: this matrix looks at nothing")
	}
	return s, nil
}

// add compiles the tests of one package and asks them for their names.
func (s *suite) add(ctx context.Context, room, dir string) error {
	to := filepath.Join(s.root, "tests", url.PathEscape(room))
	binary := filepath.Join(to, "test")
	if _, err := goTool(ctx, "test", "-c", "-tags", "guest", "-trimpath", "-ldflags=-s -w", "-o", binary, module+"/"+room); err != nil {
		return err
	}
	if data := filepath.Join(dir, "testdata"); exists(data) {
		if err := os.CopyFS(filepath.Join(to, "testdata"), os.DirFS(data)); err != nil {
			return fmt.Errorf("copy test data: %w", err)
		}
	}
	names, err := exec.CommandContext(ctx, binary, "-test.list=^Test").Output()
	if err != nil {
		return fmt.Errorf("list tests of %s: %w", room, err)
	}
	s.tests[room] = strings.Fields(string(names))
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// goTool runs the go command for the machine, which has no C library.
func goTool(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s: %w", cmd, err)
	}
	return string(out), nil
}

// of is the suite without what a line has no use for.
func (s *suite) of(l *line) *suite {
	own := &suite{root: s.root, tests: map[string][]string{}}
	for room, names := range s.tests {
		if l.has(room) {
			own.tests[room] = names
		} else {
			own.left = append(own.left, url.PathEscape(room))
		}
	}
	return own
}

// pack writes the initramfs of a kernel: the root, and the kernel's modules.
func (s *suite) pack(ctx context.Context, k linux, file string) error {
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("make initramfs: %w", err)
	}
	defer out.Close()
	// A kernel reads one archive after the other.
	for _, tree := range []struct{ at, find string }{{s.root, "."}, {filepath.Dir(k.modules), "./" + filepath.Base(k.modules)}} {
		find := []string{"-c", `find "$@" | cpio --quiet -o -H newc`, "sh", tree.find}
		for _, left := range s.left {
			find = append(find, "-not", "-path", "./tests/"+left, "-not", "-path", "./tests/"+left+"/*")
		}
		cmd := exec.CommandContext(ctx, "sh", find...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = tree.at, out, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("pack %s: %w (is cpio installed?)", tree.at, err)
		}
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	return nil
}
