package archive

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// File is a file or a folder of an image.
type File struct {
	Path    string // without a leading slash; a folder's ends in one
	Mode    int64  // of Unix, 0o1777 for example
	Content []byte // unless From says where it is
	From    string // a file of this machine
}

// Folder tells whether it is one.
func (f *File) Folder() bool { return strings.HasSuffix(f.Path, "/") }

// Open opens its content, and says how many bytes that is. Close it.
func (f *File) Open() (io.ReadCloser, int64, error) {
	if f.From == "" {
		return io.NopCloser(bytes.NewReader(f.Content)), int64(len(f.Content)), nil
	}
	file, err := os.Open(f.From)
	if err != nil {
		return nil, 0, fmt.Errorf("open file: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, 0, fmt.Errorf("open file: %w", err)
	}
	return file, info.Size(), nil
}

// above are the folders that it is in, the outermost first.
func (f *File) above() (folders []string) {
	for dir := path.Dir(strings.TrimSuffix(f.Path, "/")); dir != "."; dir = path.Dir(dir) {
		folders = append(folders, dir+"/")
	}
	slices.Reverse(folders)
	return folders
}

// Copy returns files of this machine, by their paths in an image: for a folder, all that is in it.
// Links are followed. What may be executed by anybody here may be by everybody there.
func Copy(from map[string]string) ([]File, error) {
	var all []File
	for _, name := range slices.Sorted(maps.Keys(from)) {
		files, err := tree(name, from[name])
		if err != nil {
			return nil, err
		}
		all = append(all, files...)
	}
	return all, nil
}

func tree(name, from string) ([]File, error) {
	info, err := os.Stat(from)
	if err != nil {
		return nil, fmt.Errorf("copy file: %w", err)
	}
	if !info.IsDir() {
		mode := int64(0o644)
		if info.Mode()&0o111 != 0 {
			mode = 0o755
		}
		return []File{{Path: name, Mode: mode, From: from}}, nil
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return nil, fmt.Errorf("copy folder: %w", err)
	}
	all := []File{{Path: name + "/", Mode: 0o755}}
	for _, entry := range entries {
		files, err := tree(path.Join(name, entry.Name()), filepath.Join(from, entry.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, files...)
	}
	return all, nil
}
