package verdict

import (
	"os"
	"strings"
	"testing"
)

// TestDocumented: docs/LANE.md has a row for each reason and for no other, in every language.
func TestDocumented(t *testing.T) {
	for _, file := range []string{"../../../docs/LANE.md", "../../../docs/zh/LANE.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, table, ok := strings.Cut(string(text), "|---|---|\n")
		table, _, end := strings.Cut(table, "\n\n")
		if !ok || !end {
			t.Fatalf("%s has no table of reasons", file)
		}
		rows := map[string]bool{}
		for line := range strings.Lines(table + "\n") {
			name, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
			rows[name] = true
		}
		for _, reason := range Reasons {
			if !rows[string(reason)] {
				t.Errorf("%s has no row for %q", file, reason)
			}
			delete(rows, string(reason))
		}
		for name := range rows {
			t.Errorf("%s has a row for %q, which is no reason", file, name)
		}
	}
}
