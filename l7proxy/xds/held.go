package xds

import (
	"iter"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/xds/files"
	"github.com/dubway/dubway/l7proxy/xds/shelf"
)

// Held lists what holds of the files, with its types, types together: as far as the files
// still say it. They are read anew for that, since their messages are not kept; what was
// changed since, or cannot be read any more, is left out.
func (s *Source) Held() iter.Seq2[string, Resource] {
	s.reload.Lock()
	held := s.set
	s.reload.Unlock()
	return func(yield func(string, Resource) bool) {
		texts, _, err := readDir(s.dir)
		if err != nil {
			return
		}
		for at, typ := range shelf.Types {
			for _, t := range texts {
				if t.err != nil {
					continue
				}
				for r := range held.resources(t, shelf.Kinds[at]) {
					if !yield(typ, r) {
						return
					}
				}
			}
		}
	}
}

// resources lists those of a kind that a file has and that hold.
func (s *set) resources(t text, kind string) iter.Seq[Resource] {
	return func(yield func(Resource) bool) {
		all, err := files.Parse(t.data)
		if err != nil {
			return
		}
		for i := range all {
			r := &all[i]
			e, ok := s.entries[key{r.Kind, r.Name}]
			if r.Kind != kind || r.Message == nil || !ok || e.Sum != r.Sum || e.file != t.file {
				continue
			}
			body, err := anypb.New(r.Message)
			if err == nil && !yield(Resource{Name: r.Name, Body: body}) {
				return
			}
		}
	}
}
