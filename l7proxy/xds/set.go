package xds

import (
	"crypto/sha256"
	"net/netip"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/files"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/shelf"
)

// key names a resource.
type key struct{ kind, name string }

// filed is the last good version of a resource, and the file that it is in.
type filed struct {
	*shelf.Entry

	file string
}

// set is the last good version of everything that is in files. Immutable: following makes
// another.
type set struct {
	library *Library
	entries map[key]filed
	order   []key
	parsed  map[string]parsed // by file; those that were taken whole
	tables  shelf.Tables      // of entries
}

func newSet() *set { return &set{library: new(Library)} }

// snapshot makes the first snapshot of the set.
func (s *set) snapshot() *snapshot.Snapshot {
	return s.library.shelf.Join(shelf.Nothing(), s.tables).Snapshot
}

// parsed remembers what a file held, so that a change of one file costs the
// parsing of one. The messages are gone: every resource is an entry.
type parsed struct {
	sum       files.Sum
	resources []files.Resource
}

// builder makes the next set out of the last one.
type builder struct {
	last     *set
	next     *set
	bad      map[key]string // rejected resources, and the file of each
	broken   map[string]bool
	bound    map[claim]string // the listener of each; no two may have one
	rejected []Rejection
}

// following makes the set that follows s when the files hold texts. What is
// rejected stays as it is in s; what is in no file any more goes.
func (s *set) following(texts []text) (*set, []Rejection) {
	b := &builder{
		last:   s,
		next:   &set{library: s.library, entries: make(map[key]filed), parsed: make(map[string]parsed)},
		bad:    make(map[key]string),
		broken: make(map[string]bool),
		bound:  make(map[claim]string),
	}
	for _, t := range texts {
		b.file(t)
	}
	b.keep()
	edition := s.library.shelf.Edit(&s.tables)
	for _, k := range s.order {
		if _, ok := b.next.entries[k]; !ok {
			edition.Remove(k.kind, k.name)
		}
	}
	for _, k := range b.next.order {
		edition.Put(b.next.entries[k].Entry)
	}
	b.next.tables = edition.Tables()
	return b.next, b.rejected
}

// file adds what a file holds, unless it cannot be read.
func (b *builder) file(t text) {
	sum := files.Sum(sha256.Sum256(t.data))
	p, ok := b.last.parsed[t.file]
	if err := t.err; err != nil || !ok || p.sum != sum {
		p.sum = sum
		if err == nil {
			p.resources, err = files.Parse(t.data)
		}
		if err != nil {
			b.broken[t.file] = true
			b.rejected = append(b.rejected, rejectFile(t.file, err))
			return
		}
	}
	before := len(b.rejected)
	for i := range p.resources {
		b.take(t.file, &p.resources[i])
	}
	if len(b.rejected) > before {
		return // the messages are needed again when what is in the way goes
	}
	for i := range p.resources {
		p.resources[i].Message = nil
	}
	b.next.parsed[t.file] = p
}

// take adds a resource, or rejects it. What is wrong with it by itself it remembers in r,
// so that it is found out once.
func (b *builder) take(file string, r *files.Resource) {
	k := key{r.Kind, r.Name}
	if other, ok := b.next.entries[k]; ok {
		b.rejected = append(b.rejected, rejectField(file, k, nameField(k.kind), "is already in "+other.file))
		return
	}
	e, problems := b.last.entries[k].Entry, r.Problems
	if len(problems) == 0 && (e == nil || e.Sum != r.Sum) {
		e = b.next.library.shelf.Entry(r, netip.Addr{})
		problems, r.Problems = e.Problems, e.Problems
	}
	if len(problems) == 0 {
		problems = b.bind(e)
	}
	if len(problems) > 0 {
		b.bad[k] = file
		b.rejected = append(b.rejected, rejectResource(file, k, problems))
		return
	}
	b.add(k, filed{e, file})
}

func (b *builder) add(k key, e filed) {
	b.next.entries[k] = e
	b.next.order = append(b.next.order, k)
}

// bind claims a listener's addresses, or its providers.
func (b *builder) bind(e *shelf.Entry) problems.List {
	var p problems.List
	for c := range claims(e) {
		if other, ok := b.bound[c]; ok && other != e.Name {
			p.Addf("address", "%s is already listener %s's", c, other)
			return p
		}
	}
	for c := range claims(e) {
		b.bound[c] = e.Name
	}
	return nil
}

// keep adds the last good version of what is rejected now, and all that came
// from a file that cannot be read now.
func (b *builder) keep() {
	for _, k := range b.last.order {
		if _, ok := b.next.entries[k]; ok {
			continue
		}
		e := b.last.entries[k]
		file, isBad := b.bad[k]
		switch {
		case isBad:
			e.file = file
		case !b.broken[e.file]:
			continue // removed
		}
		if p := b.bind(e.Entry); len(p) > 0 {
			b.rejected = append(b.rejected, rejectField(e.file, k, p[0].Field, "the last good version goes too: "+p[0].Reason))
			continue
		}
		b.add(k, e)
	}
}

// nameField is the field of a resource's name.
func nameField(kind string) string {
	if kind == "ClusterLoadAssignment" {
		return "cluster_name"
	}
	return "name"
}
