package install

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxFile is more than any configuration has.
const maxFile = 1 << 20

// fresh is added to the name of a file that is being written. No runtime reads it.
const fresh = ".dubway-new"

// errChanged is returned for a file that somebody else wrote meanwhile.
var errChanged = errors.New("it was changed meanwhile; tried again")

// read reads a regular file of bounded size.
func read(path string) ([]byte, os.FileInfo, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("look at file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("it is no regular file: name the folder of the real one with --cni-conf-dir")
	}
	if info.Size() > maxFile {
		return nil, nil, fmt.Errorf("it has %d bytes, %d are allowed", info.Size(), maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read file: %w", err)
	}
	return text, info, nil
}

// replace puts text in the place of a file that had been old, with its mode and owner. A
// reader sees the one or the other. What somebody wrote in between is put back.
func replace(path string, old, text []byte) error {
	_, like, err := read(path)
	if err != nil {
		return err
	}
	next := path + fresh
	if err := write(next, bytes.NewReader(text), like); err != nil {
		return err
	}
	defer func() { _ = os.Remove(next) }()
	switch err := exchange(path, next, old, text); {
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP):
		// A file system without it: the moment between look and rename stays.
		if now, _, err := read(path); err != nil || !bytes.Equal(now, old) {
			return errors.Join(errChanged, err)
		}
		if err := os.Rename(next, path); err != nil {
			return fmt.Errorf("replace file: %w", err)
		}
	case err != nil:
		return err
	}
	return syncDir(filepath.Dir(path))
}

// exchange puts next, which has text, in the place of path, which had old. If path had
// something else it is put back; what came meanwhile is found in the same way then.
func exchange(path, next string, old, text []byte) error {
	var changed error
	for range 100 {
		if err := unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE); err != nil {
			return errors.Join(changed, fmt.Errorf("replace file: %w", err))
		}
		taken, _, err := read(next)
		if err == nil && bytes.Equal(taken, old) {
			return changed
		}
		// It is newer than what it was exchanged for.
		changed = errors.Join(errChanged, err)
		old, text = text, taken
	}
	return changed
}

// create writes a file that may or may not be there, with the mode and owner of another.
func create(path string, content io.Reader, like os.FileInfo) error {
	next := path + fresh
	if err := write(next, content, like); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(fmt.Errorf("write file: %w", err), os.Remove(next))
	}
	return syncDir(filepath.Dir(path))
}

// move renames a file within its directory.
func move(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("rename file: %w", err)
	}
	return syncDir(filepath.Dir(to))
}

// write writes a new file to the disk. It removes what it could not finish.
func write(path string, content io.Reader, like os.FileInfo) (err error) {
	// Left by an agent that was killed.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("write file: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(path)
		}
	}()
	if _, err := io.Copy(f, content); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	if s, ok := like.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(s.Uid), int(s.Gid)); err != nil {
			return fmt.Errorf("write file: %w", err)
		}
	}
	if err := errors.Join(f.Chmod(like.Mode().Perm()), f.Sync()); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}

// syncDir makes names last over a loss of power.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
