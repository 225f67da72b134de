// Package kept is the last good configuration of views on disk. What views have in common,
// which is most of a mesh, is there once, and a change writes what it is near to: of 10,000
// services a view is 70 MB, which ten views would write ten times for each endpoint that
// comes or goes.
//
// A view is a small file that names parts; a part is resources of one type, compressed,
// under a name that tells what is in it. A file is replaced by renaming: what is read is
// whole, or damaged, which its sum tells. What no view names goes.
package kept

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/dubway/dubway/l7proxy/xds"
)

// magic begins a view; then come the sum of the rest and the rest.
const magic = "dubway-xds-2\n"

// What the names of files end in: those that views name, and those that are being written.
const (
	partSuffix = ".part"
	newSuffix  = ".new"
)

// Keeper keeps views in a directory, which is its alone. Its methods are safe for
// concurrent use.
type Keeper struct {
	dir string

	mu    sync.Mutex          // what follows; one view is written after another
	found bool                // views is what is in the directory
	views map[string][]string // the parts of each, by its file's name
	sound map[string]bool     // parts that were read, or written, and are as they should be
}

// In returns the Keeper of a directory, which need not be there yet.
func In(dir string) *Keeper {
	return &Keeper{dir: dir, views: make(map[string][]string), sound: make(map[string]bool)}
}

// view is what is in a view's file.
type view struct {
	Owner string   `json:"owner"` // whose it is: another's is none of ours
	Parts []string `json:"parts"` // in the order in which they are taken
}

var (
	errForeign = errors.New("it is of another server or of another node")
	errSum     = errors.New("its sum is wrong: it was damaged")
)

// Load has a view of an owner taken, by one update for each type, and tells whether there
// is one. Of one that is damaged nothing is taken.
func (k *Keeper) Load(name, owner string, take func(xds.Update)) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, err := k.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && v.Owner != owner {
		err = errForeign
	}
	if err != nil {
		return false, err
	}
	for _, p := range v.Parts {
		if k.sound[p] {
			continue
		}
		if err := k.check(p); err != nil {
			return false, err
		}
		k.sound[p] = true
	}
	for rest := v.Parts; len(rest) > 0; {
		typ := typeOf(rest[0])
		n := 1
		for n < len(rest) && typeOf(rest[n]) == typ {
			n++
		}
		take(xds.Update{Type: typ, Each: k.resources(rest[:n])})
		rest = rest[n:]
	}
	return len(v.Parts) > 0, nil
}

// read reads a view's file.
func (k *Keeper) read(name string) (v view, err error) {
	text, err := os.ReadFile(filepath.Join(k.dir, name))
	if err != nil {
		return v, fmt.Errorf("read configuration: %w", err)
	}
	rest, ok := bytes.CutPrefix(text, []byte(magic))
	if !ok || len(rest) < sha256.Size {
		return v, errors.New("it is not a kept configuration, or of another release")
	}
	if sha256.Sum256(rest[sha256.Size:]) != [sha256.Size]byte(rest[:sha256.Size]) {
		return v, errSum
	}
	if err := json.Unmarshal(rest[sha256.Size:], &v); err != nil {
		return v, fmt.Errorf("decode configuration: %w", err)
	}
	for _, p := range v.Parts {
		if typeOf(p) == "" || p != filepath.Base(p) {
			return v, errSum
		}
	}
	return v, nil
}

// Save keeps what a view holds, all of which is listed twice. What is kept already is not
// written again.
func (k *Keeper) Save(name, owner string, all iter.Seq[xds.Good]) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := os.MkdirAll(k.dir, 0o750); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := k.find(); err != nil {
		return err
	}
	cut := cutting(all)
	if err := k.write(cut, all); err != nil {
		return err
	}
	v := view{owner, slices.Sorted(cut.names())}
	rest, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}
	sum := sha256.Sum256(rest)
	if err := k.put(name, slices.Concat([]byte(magic), sum[:], rest)); err != nil {
		return err
	}
	k.views[name] = v.Parts
	k.clean()
	return nil
}

// Forget lets a view go.
func (k *Keeper) Forget(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forget(name)
	k.clean()
}

func (k *Keeper) forget(name string) {
	delete(k.views, name)
	_ = os.Remove(filepath.Join(k.dir, name)) // if it stays it is found at the next start
}

// Sweep lets all views go but some.
func (k *Keeper) Sweep(but map[string]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.find() != nil {
		return
	}
	for name := range k.views {
		if !but[name] {
			k.forget(name)
		}
	}
	k.clean()
}

// find finds the views of earlier processes, whose parts are not ours to remove before it
// is known that nobody has them. The caller locks.
func (k *Keeper) find() error {
	if k.found {
		return nil
	}
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return fmt.Errorf("list directory: %w", err)
	}
	for _, e := range entries {
		if name := e.Name(); !strings.HasSuffix(name, partSuffix) && !strings.HasSuffix(name, newSuffix) {
			v, _ := k.read(name) // one that is damaged has nothing
			k.views[name] = v.Parts
		}
	}
	k.found = true
	return nil
}

// clean removes what no view has. The caller locks.
func (k *Keeper) clean() {
	live := make(map[string]bool)
	for _, parts := range k.views {
		for _, p := range parts {
			live[p] = true
		}
	}
	for p := range k.sound {
		if !live[p] {
			delete(k.sound, p)
		}
	}
	entries, _ := os.ReadDir(k.dir) // what stays is found the next time
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, partSuffix) && !live[name] || strings.HasSuffix(name, newSuffix) {
			_ = os.Remove(filepath.Join(k.dir, name))
		}
	}
}

// put replaces a file in one rename.
func (k *Keeper) put(name string, text []byte) error {
	path := filepath.Join(k.dir, name)
	if err := os.WriteFile(path+newSuffix, text, 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := os.Rename(path+newSuffix, path); err != nil {
		return fmt.Errorf("replace configuration: %w", err)
	}
	return nil
}
