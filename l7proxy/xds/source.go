// Package xds is where configuration comes in: it reads xDS v3 resources from
// a directory of files, watches it, and publishes one immutable, sealed
// snapshot for each change. It is the only door to Envoy's API types:
//
//	files    text -> messages
//	fields   which of their fields are implemented; what is not is rejected
//	routes   route tables -> snapshot.RouteConfig
//	listeners, convert  other messages -> the types of package snapshot
//
// A resource that is bad is rejected by its name and a field's path, and its
// last good version stays; so do all the resources of a file that cannot be
// read. Everything else applies, all of it in one swap. The package decides
// nothing about requests: router and cluster do, from the snapshot.
package xds

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

//go:generate go run ./gendoc ../../docs/xds.md

// Load reads the files, and the files of the directories, at paths and returns
// what can be applied together with what cannot. The snapshot is never nil.
func Load(paths []string) (*snapshot.Snapshot, []Rejection) {
	s, rejected := new(set).following(readPaths(paths))
	return s.join(1), rejected
}

// Check validates the files, and the files of the directories, at paths. None
// rejected means that a Source would apply every resource.
func Check(paths []string) []Rejection {
	_, rejected := Load(paths)
	return rejected
}

// Source publishes one snapshot for each change of a directory of xDS files.
// Its methods are safe for concurrent use.
type Source struct {
	dir     string
	times   times
	logger  *slog.Logger
	current atomic.Pointer[snapshot.Snapshot]
	change  func(*snapshot.Snapshot)

	reload sync.Mutex // one Reload at a time; held while change runs
	set    *set
	seen   []found

	mu       sync.Mutex // what follows
	rejected []Rejection
	stats    Stats
}

// Stats are the counters of a Source, for metrics.
type Stats struct {
	Reloads    uint64         // times the directory was read
	Published  uint64         // snapshots published; the current one's generation
	Rejections uint64         // rejections so far, each counted when it first appears
	Resources  map[string]int // resources in the current snapshot, by kind
}

// NewSource returns a Source of the files in dir: *.yaml, *.yml and *.json. It
// reads nothing yet: Snapshot is empty, with generation 0, until Reload or Run.
func NewSource(dir string, logger *slog.Logger) *Source {
	s := &Source{dir: dir, times: times{quiet, patience, poll}, logger: logger, set: new(set)}
	s.current.Store((&snapshot.Snapshot{}).Seal())
	return s
}

// OnChange sets the function that is called with each new snapshot, one call
// at a time, in the order of their generations; Snapshot already returns it
// then. Set it before Reload and Run. It must not call Reload.
func (s *Source) OnChange(f func(*snapshot.Snapshot)) { s.change = f }

// Snapshot returns the current snapshot, never nil.
func (s *Source) Snapshot() *snapshot.Snapshot { return s.current.Load() }

// Rejections returns what the last reload did not apply, in the order of the
// files and of the resources in them.
func (s *Source) Rejections() []Rejection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.rejected)
}

// Stats returns the counters.
func (s *Source) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats // Resources is replaced, never changed
}

// Reload reads the directory now and publishes a snapshot if its resources
// changed. The first call always publishes one, with generation 1.
func (s *Source) Reload() {
	s.reload.Lock()
	defer s.reload.Unlock()
	texts, seen, err := readDir(s.dir)
	if err != nil {
		texts = s.unreadable(err)
	}
	s.seen = seen
	next, rejected := s.set.following(texts)
	if err != nil {
		rejected = []Rejection{rejectFile(s.dir, err)}
	}
	s.report(rejected)
	generation := s.current.Load().Generation
	if generation > 0 && next.equal(s.set) {
		s.set = next
		return
	}
	old := s.set
	s.set = next
	published := next.join(generation + 1)
	s.publish(published, old)
}

// unreadable stands for the directory when it cannot be read: every file that
// it had is still there, unreadable.
func (s *Source) unreadable(err error) []text {
	var texts []text
	seen := make(map[string]bool)
	for _, k := range s.set.order {
		file := s.set.entries[k].file
		if !seen[file] {
			seen[file] = true
			texts = append(texts, text{file: file, err: err})
		}
	}
	return texts
}

// publish makes a snapshot the current one and tells of it.
func (s *Source) publish(next *snapshot.Snapshot, old *set) {
	resources := make(map[string]int)
	for _, k := range s.set.order {
		resources[k.kind]++
	}
	s.mu.Lock()
	s.stats.Published = next.Generation
	s.stats.Resources = resources
	s.mu.Unlock()
	s.current.Store(next)
	added, removed := 0, 0
	for _, k := range s.set.order {
		if old.entries[k] == nil {
			added++
		}
	}
	for _, k := range old.order {
		if s.set.entries[k] == nil {
			removed++
		}
	}
	s.logger.Info("xds applied", "generation", next.Generation, "resources", len(s.set.order), "added", added, "removed", removed)
	if s.change != nil {
		s.change(next)
	}
}

// report keeps the rejections and logs those that are new.
func (s *Source) report(rejected []Rejection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Reloads++
	for _, r := range rejected {
		if slices.ContainsFunc(s.rejected, r.same) {
			continue
		}
		s.stats.Rejections++
		s.logger.Warn("xds rejected; its last good version stays",
			"file", r.File, "kind", r.Kind, "name", r.Name, "field", r.Field, "reason", r.Reason, "more", len(r.More))
	}
	s.rejected = rejected
}
