// Package install chains the plugin into the node's CNI configuration and keeps it
// there: the binary in the host's folder of plugins, and an element in the first
// configuration, which is the one that a container runtime uses. It edits text, so that
// what it does not know stays as it is, and taking the element out again gives the
// original, byte for byte.
//
// It leaves the plugin in place when the agent stops: pods then wait for the next one.
package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/dubway/dubway/cni/entry"
)

const (
	rescanInterval = 5 * time.Second        // what no event tells of
	hurry          = 100 * time.Millisecond // after a file was changed under our hands
	settled        = 10 * time.Second       // a file of that age has been written to its end
)

// Options of an Installer. All but Exempt and ReportStatus must be given.
type Options struct {
	ConfDir string     // the host's folder of CNI configuration, usually /etc/cni/net.d
	BinDir  string     // the host's folder of CNI plugins, usually /opt/cni/bin
	Source  string     // the plugin's binary in the agent's image
	Socket  string     // the agent's, as the plugin on the host sees it
	Mode    entry.Mode // what becomes of pods without an agent
	Exempt  []string   // namespaces whose pods are never asked about
	// ReportStatus lets the plugin's STATUS fail: see entry.Entry.
	ReportStatus bool
	Log          *slog.Logger
}

// Installer keeps the plugin in its place. All methods are safe for concurrent use.
type Installer struct {
	opts   Options
	log    *slog.Logger
	entry  entry.Entry
	binary *binary

	mu      sync.Mutex // held while files are looked at and changed
	removed bool
	status  Status
	said    string // the status, when it was last logged
}

// Status is what the installer found and did when it looked last.
type Status struct {
	File     string    // of ConfDir, in which the plugin is chained; "" while it is in none
	Problems []Problem // what keeps it out, or is not as it should be
}

// Problem is something that an operator must look at.
type Problem struct {
	Name string // of the file
	Err  error
}

// New makes an installer. It changes nothing before Run.
func New(opts Options) (*Installer, error) {
	exempt := slices.Clone(opts.Exempt)
	slices.Sort(exempt)
	i := &Installer{
		opts: opts, log: opts.Log,
		entry: entry.Entry{Type: entry.Type, Mode: opts.Mode, Socket: opts.Socket,
			Exempt: slices.Compact(exempt), ReportStatus: opts.ReportStatus},
		binary: &binary{source: opts.Source, dir: opts.BinDir},
	}
	if err := i.entry.Validate(); err != nil {
		return nil, err
	}
	if opts.ConfDir == "" || opts.BinDir == "" || opts.Source == "" {
		return nil, errors.New("install CNI plugin: the folders of configuration and plugins and the plugin's binary must be given")
	}
	return i, nil
}

// Run chains the plugin in and keeps it there until ctx ends. What it cannot do now it
// tries again; Status has the reason.
func (i *Installer) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewBufferedWatcher(64)
	if err != nil {
		return fmt.Errorf("watch CNI configuration: %w", err)
	}
	defer watcher.Close()
	for ctx.Err() == nil {
		// Again and again: a folder that came back is another one.
		for _, dir := range []string{i.opts.ConfDir, i.opts.BinDir} {
			_ = watcher.Add(dir) // if it cannot be, the scan says so
		}
		next := rescanInterval
		if i.look() {
			next = hurry
		}
		i.rest(ctx, watcher, next)
	}
	return nil
}

// rest waits for the next reason to look.
func (i *Installer) rest(ctx context.Context, watcher *fsnotify.Watcher, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-watcher.Events:
		for len(watcher.Events) > 0 { // of one change there are several
			<-watcher.Events
		}
	case err := <-watcher.Errors:
		i.log.Warn("watch CNI configuration", "error", err)
	}
}

// look scans once, and tells whether it should again soon.
func (i *Installer) look() (again bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.removed {
		return false
	}
	s := i.scan()
	if text := s.String(); text != i.said {
		i.said = text
		for _, p := range s.Problems {
			i.log.Warn("CNI configuration is not as it should be", "file", p.Name, "error", p.Err)
		}
		i.log.Info("CNI plugin", "status", text)
	}
	i.status = s
	return slices.ContainsFunc(s.Problems, func(p Problem) bool { return errors.Is(p.Err, errChanged) })
}

// Status tells where the plugin is.
func (i *Installer) Status() Status {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.status
}

// String says it in a line.
func (s Status) String() string {
	parts := []string{"chained in " + s.File}
	switch {
	case s.File == "" && len(s.Problems) > 0:
		parts[0] = "not chained"
	case s.File == "":
		parts[0] = "not chained: there is no CNI configuration yet"
	}
	for _, p := range s.Problems {
		parts = append(parts, fmt.Sprintf("%s: %v", p.Name, p.Err))
	}
	return strings.Join(parts, "; ")
}

// Remove takes the plugin out of every configuration, for good: Run does nothing
// afterwards. The binary stays. Some runtimes run the plugins of a pod's start at its
// end, by a copy of the configuration, and without it those pods could not be deleted.
func (i *Installer) Remove() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.removed = true
	names, err := i.candidates()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		err := i.leave(name)
		for range 10 { // against a writer that is at it
			if !errors.Is(err, errChanged) {
				break
			}
			time.Sleep(hurry)
			err = i.leave(name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove CNI plugin from %s: %w", name, err))
		}
	}
	i.status = Status{}
	return errors.Join(append(errs, i.sweep())...)
}
