package install

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dubway/dubway/cni/entry"
)

// errMalformed is joined to what is wrong with a file that no runtime can read either.
var errMalformed = errors.New("malformed: correct it, or remove it")

// candidates lists the files that a runtime reads, in its order: it takes the first.
func (i *Installer) candidates() ([]string, error) {
	all, err := os.ReadDir(i.opts.ConfDir)
	if err != nil {
		return nil, fmt.Errorf("read CNI configuration: %w: --cni-conf-dir must be the host's folder of it", err)
	}
	var names []string
	for _, file := range all {
		if ext := filepath.Ext(file.Name()); !file.IsDir() && slices.Contains([]string{".conf", ".conflist", ".json"}, ext) {
			names = append(names, file.Name())
		}
	}
	return names, nil
}

// scan looks at everything once and puts in order what is not.
func (i *Installer) scan() (s Status) {
	fail := func(name string, err error) { s.Problems = append(s.Problems, Problem{name, err}) }
	err := i.binary.put()
	if err != nil {
		fail(i.binary.path(), err)
	}
	names, err := i.candidates()
	if err != nil {
		fail(i.opts.ConfDir, err)
		return s
	}
	// A list that names a plugin which is not there starts no pod at all.
	if !i.binary.present() {
		return s
	}
	for _, name := range names {
		if name == s.File {
			continue // a conflist that was there before, of a single plugin's file
		}
		if s.File != "" {
			// The runtime does not look at it; in it, we would be called twice by a
			// plugin that delegates to it.
			if err := i.leave(name); err != nil {
				fail(name, err)
			}
			continue
		}
		chained, err := i.join(name)
		if err != nil {
			fail(name, err)
			// Some runtimes pass over a file that they cannot read; any other they use.
			// One that was just written may not be complete.
			if !errors.Is(err, errMalformed) || i.isNew(name) {
				break
			}
			continue
		}
		s.File = chained
	}
	return s
}

// isNew tells whether a file's author may still be at it.
func (i *Installer) isNew(name string) bool {
	info, err := os.Lstat(filepath.Join(i.opts.ConfDir, name))
	return err != nil || time.Since(info.ModTime()) < settled
}

// join makes sure that the plugin is in a file, and returns in which it is then.
func (i *Installer) join(name string) (string, error) {
	text, info, err := read(filepath.Join(i.opts.ConfDir, name))
	if err != nil {
		return "", err
	}
	if isSingle(name) {
		return i.convert(name, text, info)
	}
	l, err := parseList(text)
	if err != nil {
		return "", errors.Join(errMalformed, err)
	}
	if err := l.usable(); err != nil {
		return "", err
	}
	e := i.entry
	if found := l.entry(); found != nil {
		e.Converted = found.Converted
	}
	next, err := l.with(&e)
	if err != nil || bytes.Equal(next, text) {
		return name, err
	}
	if err := replace(filepath.Join(i.opts.ConfDir, name), text, next); err != nil {
		return "", err
	}
	i.log.Info("chained into the CNI configuration", "file", name)
	return name, nil
}

// convert puts a conflist in the place of a single plugin's file, which moves aside: it
// would come first. Between the two steps it still does, as before.
func (i *Installer) convert(name string, text []byte, info os.FileInfo) (string, error) {
	next, err := toList(text)
	if err != nil {
		return "", errors.Join(errMalformed, err)
	}
	l, err := parseList(next)
	if err == nil {
		err = l.usable()
	}
	if err != nil {
		return "", err
	}
	e := i.entry
	e.Converted = name
	if next, err = l.with(&e); err != nil {
		return "", err
	}
	target := listName(name)
	path := filepath.Join(i.opts.ConfDir, target)
	if existing, _, err := read(path); !errors.Is(err, os.ErrNotExist) {
		if err != nil || convertedFrom(existing) != name {
			return "", fmt.Errorf("its conflist would be %s, which is another's: remove the one that is not used", target)
		}
	}
	if err := create(path, bytes.NewReader(next), info); err != nil {
		return "", err
	}
	from := filepath.Join(i.opts.ConfDir, name)
	if now, _, err := read(from); err != nil || !bytes.Equal(now, text) {
		return "", errors.Join(errChanged, err)
	}
	if err := move(from, from+aside); err != nil {
		return "", err
	}
	i.log.Info("chained into the CNI configuration, as a list in the place of a single plugin", "file", target, "kept", name+aside)
	return target, nil
}

// convertedFrom is the file whose place a list took, "" for a list of its own.
func convertedFrom(text []byte) string {
	l, err := parseList(text)
	if err != nil {
		return ""
	}
	if e := l.entry(); e != nil {
		return e.Converted
	}
	return ""
}

// leave takes the plugin out of a file, if it is there. A list that took a single
// plugin's place makes room for it again.
func (i *Installer) leave(name string) error {
	path := filepath.Join(i.opts.ConfDir, name)
	text, _, err := read(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil || isSingle(name) {
		return err
	}
	if !bytes.Contains(text, []byte(entry.Type)) {
		return nil
	}
	l, err := parseList(text)
	if err != nil {
		return fmt.Errorf("%w: take the plugin of type %s out of it by hand", err, entry.Type)
	}
	if from := convertedFrom(text); from != "" {
		if done, err := i.restore(name, from, text); done || err != nil {
			return err
		}
	}
	next, err := l.without()
	if err != nil || bytes.Equal(next, text) {
		return err
	}
	if err := replace(path, text, next); err != nil {
		return err
	}
	i.log.Info("taken out of the CNI configuration", "file", name)
	return nil
}

// restore puts a single plugin's file back in the place of its list, and tells whether
// it did: not if somebody changed the list, whose work would be lost.
func (i *Installer) restore(name, from string, text []byte) (done bool, err error) {
	if from != filepath.Base(from) || listName(from) != name {
		return false, nil
	}
	path, original := filepath.Join(i.opts.ConfDir, name), filepath.Join(i.opts.ConfDir, from)
	kept := original + aside
	if _, _, err := read(original); errors.Is(err, os.ErrNotExist) {
		before, _, err := read(kept)
		if err != nil {
			return false, nil //nolint:nilerr // nothing to put back: the list stays
		}
		if !unchanged(before, text) {
			return false, remove(kept)
		}
		// It comes before the list from now on.
		if err := move(kept, original); err != nil {
			return false, err
		}
	}
	if err := errors.Join(remove(path), remove(kept)); err != nil {
		return false, err
	}
	i.log.Info("put the CNI configuration of a single plugin back", "file", from)
	return true, nil
}

// unchanged tells whether a list is what we made of a single plugin's file.
func unchanged(before, text []byte) bool {
	made, err := toList(before)
	if err != nil {
		return false
	}
	l, err := parseList(text)
	if err != nil {
		return false
	}
	bare, err := l.without()
	return err == nil && bytes.Equal(bare, made)
}

// remove removes a file that may not be there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove file: %w", err)
	}
	return nil
}

// sweep removes what a killed agent left of files that it was writing.
func (i *Installer) sweep() error {
	var errs []error
	for _, dir := range []string{i.opts.ConfDir, i.opts.BinDir} {
		all, err := os.ReadDir(dir)
		if err != nil {
			continue // then there is nothing of ours either
		}
		for _, file := range all {
			if strings.HasSuffix(file.Name(), fresh) {
				errs = append(errs, remove(filepath.Join(dir, file.Name())))
			}
		}
	}
	return errors.Join(errs...)
}
