package xds

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/snapshot/table"
	"github.com/dubway/dubway/l7proxy/xds/files"
	"github.com/dubway/dubway/l7proxy/xds/shelf"
)

// Take takes an update and returns which of its resources are rejected: what they
// replace stays. Resources whose bytes are those that are held already cost nothing.
func (s *Store) Take(u Update) []Rejection {
	s.taking.Lock()
	defer s.taking.Unlock()
	t := &taking{
		Store: s, kind: keyOf(u.Type, "").kind, edition: s.library.shelf.Edit(&s.next),
		contest: contest{held: s.library.claims.Edit(s.claims), bids: make(map[string]*bid)},
	}
	if t.at = slices.Index(shelf.Kinds[:], t.kind); t.at >= 0 {
		t.versions = s.library.versions.Edit(s.versions[t.at])
	}
	var names []string
	for r := range u.all() {
		t.put(u.Type, r)
		names = append(names, r.Name)
	}
	for _, name := range u.Removed {
		t.remove(key{t.kind, name})
	}
	t.listen()
	s.next, s.claims = t.edition.Tables(), t.contest.held.Map()
	if t.at >= 0 {
		s.versions[t.at] = t.versions.Map()
	}
	if t.changed {
		s.took(t.rejected)
	}
	if t.relisted {
		s.list(sorted(s.refused))
	}
	refused := make(map[key]*refusal)
	for _, name := range names {
		if k := keyOf(u.Type, name); s.refused[k] != nil {
			refused[k] = s.refused[k]
		}
	}
	return sorted(refused)
}

// taking is the taking of one update.
type taking struct {
	*Store

	kind     string
	at       int // of kind in kinds; -1: of a type that is not implemented
	edition  *shelf.Edition
	versions *table.Editor[string, string]
	contest  contest
	moved    bool // a listener has changed or gone
	changed  bool
	relisted bool        // something is rejected that was not, or the other way round
	rejected []Rejection // that were not before
}

// put takes a resource.
func (t *taking) put(typ string, r Resource) {
	k := keyOf(typ, r.Name)
	sent := files.Sent(r.Name, r.Body)
	if sent.Type != typ {
		sent = files.Sent(r.Name, &anypb.Any{TypeUrl: typ})
		sent.Problems.Addf("@type", "%s in an update of %s", r.Body.GetTypeUrl(), typ)
	}
	good, refused, offered := t.edition.Get(k.kind, k.name), t.refused[k], t.contest.bids[r.Name]
	switch {
	case offered != nil && offered.now.Sum == sent.Sum:
		offered.version = r.Version
		return
	case offered != nil:
		delete(t.contest.bids, r.Name) // the same listener twice: the last one counts
	case refused != nil && refused.entry.Sum == sent.Sum:
		refused.version = r.Version
		return
	case refused == nil && good != nil && good.Sum == sent.Sum:
		t.version(r.Name, r.Version)
		return
	}
	t.changed = true
	e := t.library.shelf.Entry(&sent, t.pod)
	switch {
	case len(e.Problems) > 0:
		t.refuse(k, &refusal{e, r.Version, rejectResource(t.origin, k, e.Problems)})
	case t.at == shelf.ListenerKind:
		t.contest.bids[e.Name] = &bid{old: good, now: e, version: r.Version}
	default:
		t.accept(e, r.Version)
	}
}

// accept makes an entry the last good one of its name.
func (t *taking) accept(e *shelf.Entry, version string) {
	t.edition.Put(e)
	t.version(e.Name, version)
	t.forgive(key{e.Kind, e.Name})
}

// forgive forgets what was rejected under a name.
func (t *taking) forgive(k key) {
	if t.refused[k] != nil {
		t.relisted = true
		delete(t.refused, k)
	}
}

func (t *taking) version(name, version string) {
	if version == "" {
		t.versions.Delete(name)
		return
	}
	t.versions.Set(name, version)
}

// refuse keeps what is rejected, and notes it if it is news.
func (t *taking) refuse(k key, r *refusal) {
	old := t.refused[k]
	if t.refused[k], t.relisted = r, true; old == nil || old.said() != r.said() {
		t.rejected = append(t.rejected, r.Rejection)
	}
}

// remove forgets a resource, if it is held.
func (t *taking) remove(k key) {
	if t.refused[k] != nil || t.contest.bids[k.name] != nil {
		t.changed = true
		t.forgive(k)
		delete(t.contest.bids, k.name)
	}
	if old := t.edition.Remove(k.kind, k.name); old != nil {
		t.changed = true
		t.versions.Delete(k.name)
		t.contest.release(old)
		t.moved = t.moved || t.at == shelf.ListenerKind
	}
}

// listen settles which of the new listeners get their addresses, and whether those do that
// did not before: whoever had them may have others now.
func (t *taking) listen() {
	if len(t.contest.bids) == 0 && !t.moved {
		return
	}
	for k, r := range t.refused {
		if k.kind == shelf.Kinds[shelf.ListenerKind] && len(r.entry.Problems) == 0 && t.contest.bids[k.name] == nil {
			t.contest.bids[k.name] = &bid{old: t.edition.Get(k.kind, k.name), now: r.entry, version: r.version}
		}
	}
	t.contest.settle()
	for _, name := range slices.Sorted(maps.Keys(t.contest.bids)) {
		b := t.contest.bids[name]
		if b.lost == nil {
			t.accept(b.now, b.version)
			continue
		}
		k := key{b.now.Kind, name}
		t.refuse(k, &refusal{b.now, b.version, rejectResource(t.origin, k, b.lost)})
	}
}
