package pods

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long a directory must be quiet before it is read: an editor
	// writes, renames and removes in one breath.
	settle = 50 * time.Millisecond
	// rescan finds what no event told of, such as a directory that was replaced.
	rescan = 10 * time.Second
	// maxFile bounds a workload file. It must fit into one handoff message.
	maxFile = 32 << 10
)

// Directory is a Source: one workload per file (*.yaml, *.yml, *.json) of a
// directory. A file that cannot be used is a Problem; what it said before stays
// in force until the file is good again or removed.
type Directory struct {
	path string
	log  *slog.Logger
	good map[string]*Pod   // last good pod by file name
	bad  map[string]string // error by file name as last logged
}

var _ Source = (*Directory)(nil)

// NewDirectory makes a source of the files in path.
func NewDirectory(path string, log *slog.Logger) *Directory {
	return &Directory{path: path, log: log, good: make(map[string]*Pod)}
}

// Run watches the directory until ctx ends.
func (d *Directory) Run(ctx context.Context, publish func(Set)) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch workloads: %w", err)
	}
	defer func() { _ = watcher.Close() }()
	if err := watcher.Add(d.path); err != nil {
		return fmt.Errorf("watch workloads in %s: %w", d.path, err)
	}
	d.publish(publish)
	timer := time.NewTimer(rescan)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-watcher.Events:
			if !ok {
				return errors.New("watch workloads: watcher ended")
			}
			timer.Reset(settle)
		case err := <-watcher.Errors:
			// An overflow of the event queue, most likely: read everything.
			d.log.Warn("watch workloads", "error", err)
			timer.Reset(settle)
		case <-timer.C:
			// Adding is idempotent while the directory is the same one.
			if err := watcher.Add(d.path); err != nil {
				d.log.Warn("watch workloads", "path", d.path, "error", err)
			}
			d.publish(publish)
			timer.Reset(rescan)
		}
	}
}

// publish reads the directory and tells the result. A directory that cannot be
// read changes no pod: it says nothing about them.
func (d *Directory) publish(publish func(Set)) {
	var problems []Problem
	if names, err := d.names(); err != nil {
		problems = append(problems, Problem{Name: d.path, Err: err})
	} else {
		problems = d.read(names)
	}
	set := d.set(problems)
	d.report(set.Problems)
	publish(set)
}

// report logs each problem when it is new, not at every scan.
func (d *Directory) report(problems []Problem) {
	now := make(map[string]string, len(problems))
	for _, p := range problems {
		now[p.Name] = p.Err.Error()
		if d.bad[p.Name] != now[p.Name] {
			d.log.Error("workload file rejected", "file", p.Name, "error", p.Err)
		}
	}
	d.bad = now
}

// names lists the workload files. The targets of symbolic links count, so that
// a mounted ConfigMap works; hidden files do not.
func (d *Directory) names() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("read workloads: %w", err)
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		switch filepath.Ext(name) {
		case ".yaml", ".yml", ".json":
			if !strings.HasPrefix(name, ".") && !e.IsDir() {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// read brings good up to date with the files.
func (d *Directory) read(names []string) []Problem {
	var problems []Problem
	for name := range d.good {
		if !slices.Contains(names, name) {
			delete(d.good, name)
		}
	}
	for _, name := range names {
		pod, err := d.file(name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed since it was listed
			delete(d.good, name)
		case err != nil:
			problems = append(problems, Problem{Name: name, Err: err})
		default:
			d.good[name] = pod
		}
	}
	return problems
}

func (d *Directory) file(name string) (*Pod, error) {
	path := filepath.Join(d.path, name)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read workload: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("read workload: not a regular file of at most %d bytes", maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read workload: %w", err)
	}
	return Parse(text)
}

// set joins the good pods. Of two files with one uid, the first by name counts.
func (d *Directory) set(problems []Problem) Set {
	names := make([]string, 0, len(d.good))
	for name := range d.good {
		names = append(names, name)
	}
	slices.Sort(names)
	owner := make(map[string]string, len(names))
	s := Set{Problems: problems}
	for _, name := range names {
		pod := d.good[name]
		if first, taken := owner[pod.UID]; taken {
			err := fmt.Errorf("uid %q is already that of %s", pod.UID, first)
			s.Problems = append(s.Problems, Problem{Name: name, Err: err})
			continue
		}
		owner[pod.UID] = name
		s.Pods = append(s.Pods, pod)
	}
	slices.SortFunc(s.Pods, func(a, b *Pod) int { return strings.Compare(a.UID, b.UID) })
	return s
}
