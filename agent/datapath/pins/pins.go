// Package pins is the directory of a BPF file system in which the datapath's maps
// and links outlive the agent: its layout, and how a state comes, changes and
// goes in one step each. It knows nothing of what the programs do.
package pins

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Dir describes the directory of a pinned state:
//
//	maps_vVERSION/NAME    the maps
//	links/NAME            the links of the cgroup programs
//	lookup/COOKIE         the link of take_lookup in one network namespace
//	lane/                 the state of the lanes, which is a Dir of its own
//
// A new state is made in PATH-new and renamed; a state that goes is renamed to
// PATH-old first. So PATH is either whole or was damaged by hand. Names have no
// dots: a BPF file system reserves them.
type Dir struct {
	Path    string
	Version int      // of what the maps hold
	Maps    []string // names
	Links   []string // names, in the order in which they are attached
}

// State tells what Prepare found.
type State int

// The states of a directory.
const (
	Absent State = iota
	Whole
	Damaged // by hand: a map is missing
	Foreign // of another version than this build's
)

// MapFile is where a map is pinned.
func (d Dir) MapFile(name string) string { return filepath.Join(d.maps(), name) }

// LinkFile is where the link of a cgroup program is pinned.
func (d Dir) LinkFile(name string) string { return filepath.Join(d.links(), name) }

// LookupFile is where the link of take_lookup in one network namespace is pinned.
func (d Dir) LookupFile(cookie uint64) string {
	return filepath.Join(d.lookups(), strconv.FormatUint(cookie, 10))
}

// Lookups returns the cookies of the namespaces whose take_lookup is pinned.
func (d Dir) Lookups() ([]uint64, error) {
	entries, err := os.ReadDir(d.lookups())
	if err != nil {
		return nil, fmt.Errorf("list lookups: %w", err)
	}
	var cookies []uint64
	for _, e := range entries {
		cookie, err := strconv.ParseUint(e.Name(), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("list lookups: %w", err)
		}
		cookies = append(cookies, cookie)
	}
	return cookies, nil
}

func (d Dir) maps() string    { return filepath.Join(d.Path, fmt.Sprintf("maps_v%d", d.Version)) }
func (d Dir) links() string   { return filepath.Join(d.Path, "links") }
func (d Dir) lookups() string { return filepath.Join(d.Path, "lookup") }

func (d Dir) at(path string) Dir {
	d.Path = path
	return d
}

func (d Dir) aside() Dir { return d.at(d.Path + "-new") }
func (d Dir) gone() Dir  { return d.at(d.Path + "-old") }

// Prepare completes or removes what killed agents left behind and tells what
// there is.
func (d Dir) Prepare() (State, error) {
	for _, leftover := range []Dir{d.aside(), d.gone()} {
		if err := leftover.removeAll(); err != nil {
			return Absent, err
		}
	}
	entries, err := os.ReadDir(d.Path)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return Absent, nil
	}
	if err != nil {
		return Absent, fmt.Errorf("read pins: %w", err)
	}
	for _, e := range entries {
		if isMaps(e.Name()) && e.Name() != filepath.Base(d.maps()) {
			return Foreign, nil
		}
	}
	for _, name := range d.Maps {
		if !exists(d.MapFile(name)) {
			return Damaged, nil
		}
	}
	if !exists(d.links()) || !exists(d.lookups()) {
		return Damaged, nil
	}
	return Whole, errors.Join(finishReplaces(d.links()), finishReplaces(d.lookups()))
}

func isMaps(name string) bool { return strings.HasPrefix(name, "maps_v") }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// finishReplaces renames the links of agents that were killed in Replace: they
// are attached already.
func finishReplaces(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read pins: %w", err)
	}
	for _, e := range entries {
		name, unfinished := strings.CutSuffix(e.Name(), "-new")
		if !unfinished {
			continue
		}
		if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("finish pin: %w", err)
		}
	}
	return nil
}

// Aside makes the directories of a new state; Publish makes it the current one.
func (d Dir) Aside() (Dir, error) {
	aside := d.aside()
	for _, dir := range []string{aside.maps(), aside.links(), aside.lookups()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return Dir{}, fmt.Errorf("make pin directory: %w", err)
		}
	}
	return aside, nil
}

// Publish renames what was made aside.
func (d Dir) Publish() error {
	if err := os.Rename(d.aside().Path, d.Path); err != nil {
		return fmt.Errorf("publish pins: %w", err)
	}
	return nil
}

// Replace pins a link in the place of another in one step.
func Replace(l link.Link, file string) error {
	aside := file + "-new"
	if err := l.Pin(aside); err != nil {
		return fmt.Errorf("pin link: %w", err)
	}
	if err := os.Rename(aside, file); err != nil {
		return fmt.Errorf("publish link: %w", err)
	}
	return nil
}

// Remove detaches and removes the whole state, and what killed agents left
// beside it. That there is nothing is not an error.
func (d Dir) Remove() error {
	for _, leftover := range []Dir{d.aside(), d.gone()} {
		if err := leftover.removeAll(); err != nil {
			return err
		}
	}
	if err := d.onlyOurs(); err != nil {
		return err
	}
	err := os.Rename(d.Path, d.gone().Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("put pins aside: %w", err)
	}
	return d.gone().removeAll()
}

// onlyOurs guards against a path that was mistyped: another project's pins must
// not be removed with ours.
func (d Dir) onlyOurs() error {
	entries, err := os.ReadDir(d.Path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read pins: %w", err)
	}
	for _, e := range entries {
		if name := e.Name(); !isMaps(name) && !slices.Contains([]string{"links", "lookup", "lane", "lane-new", "lane-old"}, name) {
			return fmt.Errorf("remove %s: it holds %s, which is not ours", d.Path, name)
		}
	}
	return nil
}

// removeAll detaches the links, what was attached last first, then removes the
// directory.
func (d Dir) removeAll() error {
	if err := d.onlyOurs(); err != nil {
		return err
	}
	var files []string
	for _, name := range slices.Backward(d.Links) {
		files = append(files, d.LinkFile(name))
	}
	// Also those of other versions and of unfinished replaces.
	for _, dir := range []string{d.links(), d.lookups(), filepath.Join(d.Path, "lane*", "links")} {
		found, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			return fmt.Errorf("list links: %w", err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		if err := RemoveLink(file); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(d.Path); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	return nil
}

// RemoveLink detaches a pinned link, so that it ends now although a running
// agent holds it open, and removes its pin. That there is none is not an error.
func RemoveLink(file string) error {
	l, err := link.LoadPinnedLink(file, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned link %s: %w", file, err)
	}
	if err := errors.Join(Detach(l), l.Close()); err != nil {
		return fmt.Errorf("remove %s: %w", file, err)
	}
	if err := os.Remove(file); err != nil {
		return fmt.Errorf("remove pin: %w", err)
	}
	return nil
}

// Detach ends a link although others may hold it open. Links of a cgroup or
// namespace that is gone are detached already.
func Detach(l link.Link) error {
	err := l.Detach()
	for _, harmless := range []error{ebpf.ErrNotSupported, unix.EINVAL, unix.ENOLINK} {
		if errors.Is(err, harmless) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("detach link: %w", err)
	}
	return nil
}
