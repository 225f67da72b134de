package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// linux is an unpacked kernel.
type linux struct {
	image   string // the file that a machine boots
	modules string // the directory of the modules that it is given
}

// wanted are the modules that the tests need, in an order in which they can be loaded that
// is also their names': what lists sockets, and links between namespaces. A node's kernel
// loads them by itself.
var wanted = []string{"inet_diag", "tcp_diag", "veth"}

// kept returns the kernel of a line that the cache has. Versions leave the archive, so
// what is here is not asked for again; whoever wants a newer one deletes the folder.
func (l *line) kept(cache string) (linux, bool) {
	versions, err := filepath.Glob(filepath.Join(cache, l.name, "*", "vmlinuz"))
	if err != nil || len(versions) == 0 {
		return linux{}, false
	}
	slices.SortFunc(versions, byVersion)
	dir := filepath.Dir(versions[len(versions)-1])
	for _, name := range wanted {
		if _, err := os.Stat(filepath.Join(dir, "modules", name+".ko")); err != nil {
			return linux{}, false // it was kept by an earlier build of this command
		}
	}
	return linux{image: filepath.Join(dir, "vmlinuz"), modules: filepath.Join(dir, "modules")}, true
}

// archive is Debian's, seen through lists and settings of its own: the machine's apt
// is left as it is.
type archive struct {
	dir string // ends with close
}

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// openArchive reads the lists of the suites.
func openArchive(ctx context.Context, cache string, suites []string) (*archive, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	dir, err := os.MkdirTemp(cache, ".apt-")
	if err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	a := &archive{dir: dir}
	var sources strings.Builder
	for _, suite := range suites {
		place := "debian"
		if strings.HasSuffix(suite, "-security") {
			place = "debian-security"
		}
		fmt.Fprintf(&sources, "deb [signed-by=%s] http://deb.debian.org/%s %s main\n", keyring, place, suite)
	}
	settings := fmt.Sprintf(`Dir::Etc::SourceList "%[1]s/sources.list";
Dir::Etc::SourceParts "-";
Dir::State "%[1]s/state";
Dir::Cache "%[1]s/cache";
APT::Architectures "amd64";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
`, dir)
	for name, text := range map[string]string{"sources.list": sources.String(), "apt.conf": settings} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, errors.Join(fmt.Errorf("write apt's settings: %w", err), a.close())
		}
	}
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("make apt's folders: %w", err), a.close())
		}
	}
	if _, err := a.run(ctx, "apt-get", "-q", "update"); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *archive) close() error { return os.RemoveAll(a.dir) }

// run runs one of apt's commands in the archive's directory and returns what it prints.
func (a *archive) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = a.dir
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C")
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s: %w: %s", cmd, err, strings.TrimSpace(complaint.String()))
	}
	return string(out), nil
}

// fetch puts the newest kernel of a line into the cache.
func (a *archive) fetch(ctx context.Context, l *line, cache string) (linux, error) {
	name, err := a.choose(ctx, l)
	if err != nil {
		return linux{}, err
	}
	packages := []string{name}
	if strings.HasPrefix(name, "linux-binary-") {
		packages = append(packages, strings.Replace(name, "binary", "modules", 1))
	}
	tree := filepath.Join(a.dir, l.name)
	for _, p := range packages {
		if err := a.unpack(ctx, p, tree); err != nil {
			return linux{}, err
		}
	}
	fresh := filepath.Join(a.dir, l.name+"-kept")
	if err := a.keep(ctx, tree, fresh); err != nil {
		return linux{}, fmt.Errorf("unpack %s: %w", name, err)
	}
	to := filepath.Join(cache, l.name, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.RemoveAll(to)); err != nil {
		return linux{}, fmt.Errorf("make cache: %w", err)
	}
	if err := os.Rename(fresh, to); err != nil {
		return linux{}, fmt.Errorf("keep kernel: %w", err)
	}
	found, _ := l.kept(cache)
	return found, os.RemoveAll(tree)
}

// choose returns the package of a line's newest kernel.
func (a *archive) choose(ctx context.Context, l *line) (string, error) {
	found, err := a.run(ctx, "apt-cache", "search", "--names-only", l.packages)
	if err != nil {
		return "", err
	}
	var names []string
	for text := range strings.Lines(found) {
		if name, _, ok := strings.Cut(text, " "); ok {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", fmt.Errorf("find kernel %s: %s has no package %s any more: change line.go", l.name, l.suite, l.packages)
	}
	slices.SortFunc(names, byVersion)
	return names[len(names)-1], nil
}

// byVersion orders names by the numbers in them; where those are the same, a part
// of a package (linux-binary) comes before the package that only names its parts.
func byVersion(x, y string) int {
	return cmp.Or(slices.Compare(numbers(x), numbers(y)), -cmp.Compare(x, y))
}

var digits = regexp.MustCompile(`[0-9]+`)

func numbers(name string) []int {
	var all []int
	for _, text := range digits.FindAllString(strings.TrimSuffix(name, "-cloud-amd64"), -1) {
		n, err := strconv.Atoi(text)
		if err != nil {
			n = 0
		}
		all = append(all, n)
	}
	return all
}

func (a *archive) unpack(ctx context.Context, name, tree string) error {
	if _, err := a.run(ctx, "apt-get", "-q", "download", name); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(a.dir, name+"_*.deb"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("download %s: %d files (%w)", name, len(files), err)
	}
	if _, err := a.run(ctx, "dpkg", "-x", files[0], tree); err != nil {
		return err
	}
	return os.Remove(files[0])
}

// keep copies what is needed of an unpacked package: a tenth of it.
func (a *archive) keep(ctx context.Context, tree, to string) error {
	if err := os.MkdirAll(filepath.Join(to, "modules"), 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	image, modules := "", make(map[string]string)
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		name, _, _ := strings.Cut(entry.Name(), ".ko")
		switch {
		case err != nil || entry.IsDir():
			return err
		case strings.HasPrefix(entry.Name(), "vmlinuz"):
			image = path
		case name != entry.Name() && slices.Contains(wanted, name):
			modules[name] = path
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for the kernel: %w", err)
	}
	if image == "" || len(modules) < len(wanted) {
		return fmt.Errorf("image %q, modules %v of %v: the package's layout is another one", image, modules, wanted)
	}
	for name, path := range modules {
		if strings.HasSuffix(path, ".xz") {
			if _, err := a.run(ctx, "xz", "-d", path); err != nil {
				return err
			}
			path = strings.TrimSuffix(path, ".xz")
		}
		if err := os.Rename(path, filepath.Join(to, "modules", name+".ko")); err != nil {
			return err
		}
	}
	return os.Rename(image, filepath.Join(to, "vmlinuz"))
}
