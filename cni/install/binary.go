package install

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dubway/dubway/cni/entry"
)

// binary is the plugin's file on the host.
type binary struct {
	source, dir string

	from, at os.FileInfo // both ends when their contents were last the same
}

// path is where runtimes find it.
func (b *binary) path() string { return filepath.Join(b.dir, entry.Type) }

// put makes sure that the host's file is the one of our image. One that is being run
// lives on without its name.
func (b *binary) put() error {
	from, err := os.Stat(b.source)
	if err != nil {
		return fmt.Errorf("find plugin: %w: --cni-source must name it in the agent's image", err)
	}
	at, err := os.Lstat(b.path())
	if err == nil && same(from, b.from) && same(at, b.at) {
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look at plugin: %w: --cni-bin-dir must be the host's folder of CNI plugins", err)
	}
	if err != nil || at.Mode() != 0o755 || !b.equal(at.Size() == from.Size()) {
		if err := b.copy(from); err != nil {
			return fmt.Errorf("install plugin: %w: --cni-bin-dir must be the host's folder of CNI plugins, and writable", err)
		}
		if at, err = os.Lstat(b.path()); err != nil {
			return fmt.Errorf("look at plugin: %w", err)
		}
	}
	b.from, b.at = from, at
	return nil
}

// present tells whether a runtime would find some release of the plugin.
func (b *binary) present() bool {
	info, err := os.Stat(b.path())
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o100 != 0
}

func (b *binary) copy(from os.FileInfo) error {
	source, err := os.Open(b.source)
	if err != nil {
		return fmt.Errorf("open plugin: %w", err)
	}
	defer source.Close()
	return create(b.path(), source, executable{from})
}

// executable is a file's description with the mode of programs.
type executable struct{ os.FileInfo }

// Mode is what a runtime needs, whatever the image's layers made of it.
func (executable) Mode() os.FileMode { return 0o755 }

// Sys has no owner: the file is ours, root's.
func (executable) Sys() any { return nil }

// equal compares the contents, if they may be the same.
func (b *binary) equal(maybe bool) bool {
	if !maybe {
		return false
	}
	one, err := os.Open(b.source)
	if err != nil {
		return false
	}
	defer one.Close()
	other, err := os.Open(b.path())
	if err != nil {
		return false
	}
	defer other.Close()
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(one, x)
		m, otherErr := io.ReadFull(other, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false
		}
		if err != nil || otherErr != nil {
			ended := func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
			return ended(err) && ended(otherErr)
		}
	}
}

// same tells whether two looks at a file saw the same, untouched one.
func same(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.Mode() == b.Mode() && a.ModTime().Equal(b.ModTime())
}
