// Package xds is where configuration comes in: it reads xDS v3 resources from
// a directory of files, which a Source watches, or of a control plane, which a Store
// holds, and publishes one immutable, sealed snapshot for each change. It is the only
// door to Envoy's API types:
//
//	files    text, or what was sent -> messages
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

	"github.com/dubway/dubway/l7proxy/snapshot"
)

//go:generate go run ./gendoc ../../docs/xds.md

// Load reads the files, and the files of the directories, at paths and returns
// what can be applied together with what cannot. The snapshot is never nil.
func Load(paths []string) (*snapshot.Snapshot, []Rejection) {
	s, rejected := newSet().following(readPaths(paths))
	return s.snapshot(), rejected
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
	publisher

	dir   string
	times times

	reload sync.Mutex // one Reload at a time; held while change runs
	seen   []found
	set    *set // what was read last
}

// NewSource returns a Source of the files in dir: *.yaml, *.yml and *.json. It
// reads nothing yet: Snapshot is empty, with generation 0, until Reload or Run.
func NewSource(dir string, logger *slog.Logger) *Source {
	s := &Source{dir: dir, times: times{quiet, patience, poll}, set: newSet()}
	s.start(s.set.library, logger)
	return s
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
	s.set = next
	s.advance(next.tables)
}

// report keeps the rejections and tells of those that are new.
func (s *Source) report(rejected []Rejection) {
	known := make(map[[5]string]bool)
	for _, r := range s.Rejections() {
		known[r.said()] = true
	}
	s.list(rejected)
	s.took(slices.DeleteFunc(slices.Clone(rejected), func(r Rejection) bool { return known[r.said()] }))
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
