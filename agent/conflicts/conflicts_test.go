package conflicts

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/datapath/conflict"
	"github.com/dubway/dubway/internal/admin"
)

// programs plays the datapath.
type programs struct{ err error }

func (*programs) Lock()   {}
func (*programs) Unlock() {}

func (p *programs) Status() (datapath.Status, error) {
	return datapath.Status{Programs: []datapath.Program{{ID: 1 << 30}}}, p.err
}

// TestWatch makes a conflict come, stay, change and go: each is said once.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/10-flannel.conflist.cilium_bak"
	put := func(name string) {
		t.Helper()
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(file)
	var said bytes.Buffer
	source := &programs{}
	// What this machine has of its own is not the matter.
	folder := func(all []admin.Conflict) (found []admin.Conflict) {
		for _, c := range all {
			if c.Name == "CNI folder" {
				found = append(found, c)
			}
		}
		return found
	}
	w := New(conflict.Node{ConfDir: dir, PinPath: dir + "/dubway"}, source, slog.New(slog.NewTextHandler(&said, nil)))
	mine := func() int {
		n := strings.Count(said.String(), `conflict="CNI folder"`)
		said.Reset()
		return n
	}
	if got := folder(w.Found()); len(got) != 1 || !strings.Contains(got[0].Detail, "10-flannel") || !strings.Contains(got[0].Fix, "cni.exclusive=false") {
		t.Errorf("found %+v", got)
	}
	if n := mine(); n != 1 {
		t.Errorf("a new conflict is said %d times", n)
	}
	w.look()
	if n := mine(); n != 0 {
		t.Errorf("an old conflict is said %d times again", n)
	}
	put(dir + "/20-other.conf.cilium_bak")
	w.look()
	if n := mine(); n != 1 || len(folder(w.Found())) != 1 {
		t.Errorf("a changed conflict is said %d times, found %+v", n, w.Found())
	}
	for _, name := range []string{file, dir + "/20-other.conf.cilium_bak"} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	source.err = errors.New("no answer") // then nothing is concluded
	w.look()
	if got := folder(w.Found()); len(got) != 1 || !strings.Contains(said.String(), "no answer") {
		t.Errorf("found %+v, said %s", got, said.String())
	}
	source.err = nil
	said.Reset()
	w.look()
	if got := folder(w.Found()); len(got) != 0 || !strings.Contains(said.String(), "conflict is over") {
		t.Errorf("found %+v, said %s", got, said.String())
	}
}

// TestDocument: docs/kernels.md tells of every check, by its name.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/kernels.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conflict.Find(conflict.Node{ConfDir: t.TempDir(), PinPath: "/none/dubway"}) {
		if !strings.Contains(string(text), "| "+c.Name+" |") {
			t.Errorf("it has no row %q", c.Name)
		}
	}
}
