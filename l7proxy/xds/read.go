package xds

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFile bounds what is read of one file.
const maxFile = 64 << 20

// text is what a file holds, or why it cannot be read.
type text struct {
	file string
	data []byte
	err  error
}

// found is a file of a directory, as far as its inode tells.
type found struct {
	path string
	info os.FileInfo
}

// list returns the xDS files of a directory, in the order of their names: what
// is called *.yaml, *.yml or *.json, without hidden files, without
// subdirectories. Symbolic links are followed.
func list(dir string) ([]found, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	var files []found
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".yaml", ".yml", ".json":
		default:
			continue
		}
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := os.Stat(path)
		if err == nil && info.IsDir() {
			continue
		}
		files = append(files, found{path, info}) // info is nil for a dangling link, which read reports
	}
	return files, nil
}

// sameFiles tells whether nothing happened to a directory between two lists.
func sameFiles(a, b []found) bool {
	return slices.EqualFunc(a, b, func(x, y found) bool {
		if x.path != y.path || (x.info == nil) != (y.info == nil) {
			return false
		}
		return x.info == nil || os.SameFile(x.info, y.info) &&
			x.info.Size() == y.info.Size() && x.info.ModTime().Equal(y.info.ModTime())
	})
}

// read reads the files.
func read(files []found) []text {
	texts := make([]text, len(files))
	for i, f := range files {
		data, err := readFile(f.path)
		texts[i] = text{file: f.path, data: data, err: err}
	}
	return texts
}

// readFile reads a regular file; anything else might block or never end.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("read file: not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("read file: larger than %d MiB", maxFile>>20)
	}
	return data, nil
}

// readDir reads a directory until it holds still, so that the files of one
// atomic replacement are seen together.
func readDir(dir string) ([]text, []found, error) {
	const attempts = 5
	before, err := list(dir)
	for range attempts {
		if err != nil {
			return nil, nil, err
		}
		texts := read(before)
		after, failed := list(dir)
		if failed == nil && sameFiles(before, after) {
			return texts, before, nil
		}
		before, err = after, failed
	}
	if err != nil {
		return nil, nil, err
	}
	return read(before), before, nil
}

// readPaths reads files, and the files of directories, each once.
func readPaths(paths []string) []text {
	var texts []text
	seen := make(map[string]bool)
	for _, p := range paths {
		p = filepath.Clean(p)
		more := []text{{file: p}}
		if info, err := os.Stat(p); err == nil && info.IsDir() {
			var failed error
			if more, _, failed = readDir(p); failed != nil {
				more = []text{{file: p, err: failed}}
			}
		} else {
			more[0].data, more[0].err = readFile(p)
		}
		for _, t := range more {
			if !seen[t.file] {
				seen[t.file] = true
				texts = append(texts, t)
			}
		}
	}
	return texts
}
