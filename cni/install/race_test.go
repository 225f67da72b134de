package install

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/dubway/dubway/cni/entry"
)

// TestRunAgainstWriter has a CNI that writes its file again and again while we do: the
// last word is its own, with us in it.
func TestRunAgainstWriter(t *testing.T) {
	r := newRig(t, map[string]string{"1.conflist": plain})
	r.run()
	path := filepath.Join(r.opts.ConfDir, "1.conflist")
	text := func(i int) string {
		return fmt.Sprintf(`{"cniVersion":"1.0.0","name":"n%d","plugins":[{"type":"ptp"}]}`, i)
	}
	const rounds = 200
	for i := range rounds {
		if i%2 == 0 { // as kubectl cp would
			r.put("1.conflist", text(i))
			continue
		}
		next := filepath.Join(r.opts.ConfDir, ".calico.tmp") // as Calico does
		if err := os.WriteFile(next, []byte(text(i)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
	}
	e := r.entry
	l, err := parseList([]byte(text(rounds - 1)))
	if err != nil {
		t.Fatal(err)
	}
	want, err := l.with(&e)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "chained into what the CNI wrote last", func() bool { return r.text("1.conflist") == string(want) })
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, files(t, r.opts.ConfDir), map[string]string{"1.conflist": text(rounds - 1)})
}

// FuzzSingle: the list that takes a single plugin's place is known again as such.
func FuzzSingle(f *testing.F) {
	for _, text := range []string{single, plain, "\n{ \"type\" : \"a\",\n\t\"name\":\"\\u0041\", \"n\": 1e3, \"a\": [ ] }\n", `{"type":"a","name":"b","TYPE":"c"}`} {
		f.Add([]byte(text))
	}
	e := &entry.Entry{Type: entry.Type, Mode: entry.Closed, Socket: "/s", Converted: "1.conf"}
	f.Fuzz(func(t *testing.T, text []byte) {
		made, err := toList(text)
		if err != nil {
			return
		}
		l, err := parseList(made)
		if err != nil {
			t.Fatalf("%q became %q: %v", text, made, err)
		}
		if len(l.ours()) > 0 {
			return
		}
		next, err := l.with(e)
		if err != nil {
			t.Fatal(err)
		}
		if !unchanged(text, next) || convertedFrom(next) != "1.conf" {
			t.Fatalf("%q became %q, which is not known again", text, next)
		}
		if changed := bytes.Replace(next, []byte(`"plugins"`), []byte(`"new":1,"plugins"`), 1); unchanged(text, changed) && !bytes.Equal(changed, next) {
			t.Fatalf("%q: a change of %q is not seen", text, next)
		}
	})
}
