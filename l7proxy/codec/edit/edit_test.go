package edit

import (
	"slices"
	"testing"
)

func TestPlan(t *testing.T) {
	have := []Attachment{{"a", "1", true}, {"b", "2", true}, {"a", "3", true}, {"map", "", false}}
	for _, tt := range []struct {
		name    string
		edits   []Edit
		changes []Change
		added   []Edit
		fails   bool
	}{
		{name: "nothing"},
		{name: "the last of a name counts", edits: []Edit{{"a", "x", Append}}, changes: []Change{{At: 0, Drop: true}, {At: 2, Value: "3,x"}}},
		{name: "removed", edits: []Edit{{"a", "", Remove}}, changes: []Change{{At: 0, Drop: true}, {At: 2, Drop: true}}},
		{name: "removed and added", edits: []Edit{{"b", "", Remove}, {"b", "x", Add}}, changes: []Change{{At: 1, Drop: true}}, added: []Edit{{"b", "x", Add}}},
		{name: "twice", edits: []Edit{{"b", "x", Set}, {"b", "y", Append}}, changes: []Change{{At: 1, Value: "x,y"}}},
		{name: "there already", edits: []Edit{{"b", "x", Add}, {"c", "x", Replace}, {"c", "", Remove}}},
		{name: "added twice", edits: []Edit{{"c", "x", Append}, {"c", "y", Append}}, added: []Edit{{"c", "x,y", Append}}},
		{name: "added and removed", edits: []Edit{{"c", "x", Set}, {"c", "", Remove}}},
		{name: "no text", edits: []Edit{{"map", "x", Set}}, fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changes, added, err := Plan(have, tt.edits)
			if !slices.Equal(changes, tt.changes) || !slices.Equal(added, tt.added) || (err != nil) != tt.fails {
				t.Errorf("%+v, %+v, %v", changes, added, err)
			}
		})
	}
}
