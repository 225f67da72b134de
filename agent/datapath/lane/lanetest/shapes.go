package lanetest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Shape is a way in which an application may write frames.
type Shape struct {
	Name  string
	Write func(c *net.TCPConn, frames [][]byte, rnd *rand.Rand) error
	// Most is how large bodies may be, in bytes, so that a test ends; 0: as they are.
	Most int
	// Lane says that all of it takes the lane, while it is open and has room: each frame is
	// written whole.
	Lane bool
}

// Shapes are all that are tried.
var Shapes = []Shape{
	{Name: "one write each", Write: each, Lane: true},
	{Name: "one write for all", Write: all, Lane: true},
	{Name: "writev", Write: writev, Lane: true},
	{Name: "MSG_MORE", Write: more, Lane: true},
	{Name: "body split", Write: splitAt(100)},
	{Name: "header alone", Write: splitAt(HeaderLen)},
	{Name: "header split", Write: splitAt(HeaderLen / 2)},
	{Name: "names split", Write: splitAt(HeaderLen + 20)},
	{Name: "bytes", Write: bytes, Most: 40},
	{Name: "random chunks", Write: chunks},
	{Name: "sendfile", Write: sendfile}, // old kernels send page by page
	{Name: "header, then sendfile", Write: sendfileAfter},
	{Name: "splice", Write: splice}, // as they do here
}

// Named returns a shape.
func Named(name string) Shape {
	for _, s := range Shapes {
		if s.Name == name {
			return s
		}
	}
	return Shape{}
}

func whole(frames [][]byte) (b []byte) {
	for _, f := range frames {
		b = append(b, f...)
	}
	return b
}

func write(c *net.TCPConn, b []byte) error {
	if _, err := c.Write(b); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func each(c *net.TCPConn, frames [][]byte, _ *rand.Rand) error {
	for _, f := range frames {
		if err := write(c, f); err != nil {
			return err
		}
	}
	return nil
}

func all(c *net.TCPConn, frames [][]byte, _ *rand.Rand) error { return write(c, whole(frames)) }

func writev(c *net.TCPConn, frames [][]byte, _ *rand.Rand) error {
	var pieces net.Buffers
	for _, f := range frames {
		pieces = append(pieces, f[:HeaderLen], f[HeaderLen:])
	}
	_, err := pieces.WriteTo(c)
	if err != nil {
		return fmt.Errorf("writev: %w", err)
	}
	return nil
}

// more says of each frame that another follows, which is not so of the last.
func more(c *net.TCPConn, frames [][]byte, _ *rand.Rand) error {
	for _, f := range frames {
		if err := Send(c, f, unix.MSG_MORE|unix.MSG_NOSIGNAL); err != nil {
			return err
		}
	}
	return nil
}

// Send writes by send(), with flags.
func Send(c *net.TCPConn, b []byte, flags int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("use socket: %w", err)
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		for len(b) > 0 {
			n, err := unix.SendmsgN(int(fd), b, nil, nil, flags)
			if errors.Is(err, unix.EAGAIN) {
				return false
			}
			if err != nil {
				failed = fmt.Errorf("send: %w", err)
				return true
			}
			b = b[n:]
		}
		return true
	})
	return errors.Join(failed, err)
}

func splitAt(n int) func(*net.TCPConn, [][]byte, *rand.Rand) error {
	return func(c *net.TCPConn, frames [][]byte, _ *rand.Rand) error {
		for _, f := range frames {
			at := min(n, len(f))
			if err := errors.Join(write(c, f[:at]), write(c, f[at:])); err != nil {
				return err
			}
		}
		return nil
	}
}

func bytes(c *net.TCPConn, frames [][]byte, _ *rand.Rand) error {
	b := whole(frames)
	for i := range b {
		if err := write(c, b[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

func chunks(c *net.TCPConn, frames [][]byte, rnd *rand.Rand) error {
	for b := whole(frames); len(b) > 0; {
		n := 1 + rnd.IntN(len(b))
		if rnd.IntN(2) == 0 {
			n = 1 + rnd.IntN(min(len(b), 300))
		}
		if err := write(c, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func sendfile(c *net.TCPConn, frames [][]byte, _ *rand.Rand) error {
	for _, f := range frames {
		if err := copyFile(c, f); err != nil {
			return err
		}
	}
	return nil
}

func sendfileAfter(c *net.TCPConn, frames [][]byte, _ *rand.Rand) error {
	for _, f := range frames {
		if err := errors.Join(write(c, f[:HeaderLen]), copyFile(c, f[HeaderLen:])); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(c *net.TCPConn, b []byte) error {
	fd, err := unix.MemfdCreate("frames", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	f := os.NewFile(uintptr(fd), "frames")
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return fmt.Errorf("fill file: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("wind file: %w", err)
	}
	if _, err := c.ReadFrom(f); err != nil {
		return fmt.Errorf("send file: %w", err)
	}
	return nil
}

func splice(c *net.TCPConn, frames [][]byte, _ *rand.Rand) error {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("use socket: %w", err)
	}
	for b := whole(frames); len(b) > 0; {
		n, err := unix.Write(ends[1], b[:min(len(b), 60<<10)])
		if err != nil {
			return fmt.Errorf("fill pipe: %w", err)
		}
		b = b[n:]
		var failed error
		err = raw.Write(func(fd uintptr) bool {
			for n > 0 {
				moved, err := unix.Splice(ends[0], nil, int(fd), nil, n, unix.SPLICE_F_NONBLOCK)
				if errors.Is(err, unix.EAGAIN) {
					return false
				}
				if failed = err; err != nil {
					return true
				}
				n -= int(moved)
			}
			return true
		})
		if err := errors.Join(err, failed); err != nil {
			return fmt.Errorf("splice: %w", err)
		}
	}
	return nil
}

// Send writes frames in a shape, when the calls among them have room to wait.
func (k *Consumer) Send(frames []Frame, s Shape, rnd *rand.Rand) error {
	raw := make([][]byte, 0, len(frames))
	for _, f := range frames {
		if err := k.Expect(f); err != nil {
			return err
		}
		raw = append(raw, f.Append(nil))
	}
	return s.Write(k.c, raw, rnd)
}
