package live

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns a terminal of so many lines and columns.
func openTerminal(t *testing.T, lines, columns uint16) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs a terminal: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: lines, Col: columns})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return slave
}

// TestRedrawn: on a terminal a report takes the place of the one before, and
// nothing scrolls or wraps.
func TestRedrawn(t *testing.T) {
	screen := terminal(openTerminal(t, 4, 10))
	if screen == nil {
		t.Fatal("a terminal is not taken for one")
	}
	got := string(redrawn([]byte("first\na line that is too long\nthird\nfourth\nfifth\n"), screen))
	const want = "\x1b[Hfirst\x1b[K\r\na line tha\x1b[K\r\nthird\x1b[K\r\n\x1b[J"
	if got != want {
		t.Errorf("the screen gets %q, want %q", got, want)
	}
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if terminal(file) != nil || terminal(&bytes.Buffer{}) != nil {
		t.Error("what is no terminal is taken for one")
	}
}

// TestPrintable: what a terminal would obey does not reach it.
func TestPrintable(t *testing.T) {
	got := printable("a\x1b[2J\nb\u202ec\u0085d\x7fe 接口")
	if strings.ContainsAny(got, "\x1b\n\u202e\u0085\x7f") || got != "a?[2J?b?c?d?e 接口" {
		t.Errorf("shown is %q", got)
	}
}
