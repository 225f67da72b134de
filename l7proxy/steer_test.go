package l7proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestTables: views with the same listeners have one table, and a table whose listeners
// nobody sees any more goes on as that of who saw them.
func TestTables(t *testing.T) {
	lists := make(map[string][]*snapshot.Listener)
	for _, name := range []string{"a", "b", "c"} {
		lists[name] = []*snapshot.Listener{{Name: name}}
	}
	// view reads "LIST WORKLOAD..."; "-" is a view that was told nothing.
	view := func(text string) snapshot.View {
		words := strings.Fields(text)
		s := &snapshot.Snapshot{Generation: 1, Listeners: lists[words[0]]}
		if words[0] == "-" {
			s.Generation = 0
		}
		if words[0] == "b!" {
			s.Listeners, s.Unknown = lists["b"], snapshot.UnknownRefuse
		}
		return snapshot.View{Key: text, Snapshot: s, Workloads: words[1:]}
	}
	steps := []struct {
		name  string
		views []string
		want  []string // "NUMBER: WORKLOAD..."
	}{
		{"two alike, one other, one that knows nothing", []string{"a 1 2", "b 3", "a 4", "- 5"}, []string{"1: 1 2 4", "2: 3"}},
		{"all of one table change together: it goes on", []string{"c 1 2", "b 3", "c 4"}, []string{"1: 1 2 4", "2: 3"}},
		{"one of them goes ahead: it has another", []string{"a 1 2", "b 3", "c 4"}, []string{"3: 1 2", "2: 3", "1: 4"}},
		{"and the rest follows", []string{"a 1 2", "b 3", "a 4"}, []string{"3: 1 2 4", "2: 3"}},
		{"what is unknown counts too", []string{"a 1 2", "b 3", "b! 4"}, []string{"3: 1 2", "2: 3", "1: 4"}},
	}
	told := newSteering()
	for _, step := range steps {
		var views []snapshot.View
		for _, text := range step.views {
			views = append(views, view(text))
		}
		views = sorts(views)
		told.inherit(views)
		var got []string
		live := make(map[sort]bool)
		for i := range views {
			k := sortOf(&views[i])
			one := told.tables[k]
			if one == nil {
				n, err := told.number(&views[i])
				if err != nil {
					t.Fatal(err)
				}
				one = &steered{number: n, table: handoff.DestinationTable{Table: n}}
				told.tables[k] = one
			}
			one.follow(&views[i])
			live[k] = true
			got = append(got, fmt.Sprintf("%d: %s", one.number, strings.Join(one.table.Workloads, " ")))
		}
		for k := range told.tables {
			if !live[k] {
				delete(told.tables, k)
			}
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: tables %q, want %q", step.name, got, step.want)
		}
	}
}
