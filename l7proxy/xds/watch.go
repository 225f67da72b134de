package xds

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Times of the watch. A change is applied once the directory has been quiet for
// quiet, so that what an editor or a copy does in several steps is one change,
// but at most patience after its first event. Every poll the directory is
// looked at without an event: links into other directories, and file systems
// that send none.
const (
	quiet    = 50 * time.Millisecond
	patience = 500 * time.Millisecond
	poll     = 2 * time.Second
)

// times are those of one Source.
type times struct{ quiet, patience, poll time.Duration }

// Run loads the directory, then follows its changes until ctx ends; it returns
// nil then. A directory that is not there yet is waited for.
func (s *Source) Run(ctx context.Context) error {
	w := s.watch()
	defer w.close()
	s.Reload()
	ticker := time.NewTicker(s.times.poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.events():
		case <-ticker.C:
			w.follow()
			if !s.moved() {
				continue
			}
		}
		w.settle(ctx)
		w.follow()
		s.Reload()
	}
}

// moved tells whether the directory differs from what Reload last saw.
func (s *Source) moved() bool {
	s.reload.Lock()
	defer s.reload.Unlock()
	now, err := list(s.dir)
	return err == nil && !sameFiles(s.seen, now) || err != nil && s.seen != nil
}

// watcher tells when something happens in a directory. Without inotify (its
// instances are limited per user) it is silent and polling does the work.
type watcher struct {
	dir    string
	times  times
	notify *fsnotify.Watcher
	target string        // the directory that is watched: dir without links
	wake   chan struct{} // one pending event is as good as many
}

func (s *Source) watch() *watcher {
	w := &watcher{dir: filepath.Clean(s.dir), times: s.times, wake: make(chan struct{}, 1)}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		s.logger.Warn("cannot watch files; they are polled", "dir", s.dir, "every", s.times.poll, "error", err)
		return w
	}
	w.notify = notify
	// The parent tells of a directory that is made, renamed or a link that is
	// swapped. If it cannot be watched, polling finds out.
	_ = notify.Add(filepath.Dir(w.dir))
	go w.forward()
	w.follow()
	return w
}

// forward turns inotify's events into wake-ups until the watcher is closed.
func (w *watcher) forward() {
	for {
		select {
		case e, ok := <-w.notify.Events:
			if !ok {
				return
			}
			if filepath.Dir(e.Name) == filepath.Dir(w.dir) && e.Name != w.dir {
				continue // a neighbour of the directory
			}
			if e.Op == fsnotify.Chmod {
				continue
			}
		case _, ok := <-w.notify.Errors: // events were lost: look
			if !ok {
				return
			}
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (w *watcher) events() <-chan struct{} { return w.wake }

// follow watches the directory that dir leads to now.
func (w *watcher) follow() {
	if w.notify == nil {
		return
	}
	target, err := filepath.EvalSymlinks(w.dir)
	if err != nil {
		target = ""
	}
	if target == w.target && w.isWatched(target) {
		return
	}
	if w.target != "" {
		_ = w.notify.Remove(w.target) // gone already, perhaps
	}
	w.target = target
	if target != "" && w.notify.Add(target) != nil {
		w.target = ""
	}
}

// isWatched tells whether inotify still has the directory: it forgets one that
// is removed, even if another takes its name.
func (w *watcher) isWatched(target string) bool {
	return target == "" || slices.Contains(w.notify.WatchList(), target)
}

// settle waits until the directory is quiet.
func (w *watcher) settle(ctx context.Context) {
	deadline := time.After(w.times.patience)
	for {
		select {
		case <-ctx.Done():
			return
		case <-deadline:
			return
		case <-w.wake:
		case <-time.After(w.times.quiet):
			return
		}
	}
}

func (w *watcher) close() {
	if w.notify != nil {
		_ = w.notify.Close()
	}
}
