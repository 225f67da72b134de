package lent

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
)

var sizes = lane.Sizes{Version: lane.Version, Lanes: 2, Routes: 4, Series: 2, CPUs: 1, Active: 3, Log: os.Getpagesize()}

// memory makes files of the right sizes; pages of memory as the kernel's maps are. The ring
// buffer's second mapping is two pages and twice the data.
func memory(t *testing.T) []*os.File {
	t.Helper()
	files := make([]*os.File, lane.Files)
	for i := range files {
		fd, err := unix.MemfdCreate("lane", unix.MFD_CLOEXEC)
		if err == nil {
			err = unix.Ftruncate(fd, 1<<20)
		}
		if err != nil {
			t.Fatal(err)
		}
		files[i] = os.NewFile(uintptr(fd), "lane")
	}
	return files
}

// user writes down what it is told.
type user struct {
	told []string
	last *lane.Memory
}

var _ User = (*user)(nil)

func (u *user) Use(m *lane.Memory, mode handoff.LaneMode) {
	what := "another"
	switch m {
	case nil:
		what = "none"
	case u.last:
		what = "the same"
	}
	u.told, u.last = append(u.told, fmt.Sprintf("%s %s", mode, what)), m
}

// TestSay: what the agent says over two connections, and what its user is told.
func TestSay(t *testing.T) {
	u := &user{}
	m := New(u, slog.New(slog.DiscardHandler))
	for _, step := range []struct {
		what  string
		say   handoff.Lanes
		files int
		fails bool
		want  string
	}{
		{"there are none", handoff.Lanes{Mode: handoff.LaneOff, Why: "off"}, 0, false, "off none"},
		{"they begin", handoff.Lanes{Mode: handoff.LaneOn, Maps: 7, Sizes: sizes}, lane.Files, false, "on another"},
		{"another mode", handoff.Lanes{Mode: handoff.LaneOff, Maps: 7}, 0, false, "off the same"},
		{"the agent is another", handoff.Lanes{Mode: handoff.LaneOn, Maps: 7, Sizes: sizes}, lane.Files, false, "on the same"},
		{"its maps too, without files", handoff.Lanes{Mode: handoff.LaneOn, Maps: 8}, 0, true, "off the same"},
		{"with too few", handoff.Lanes{Mode: handoff.LaneOn, Maps: 8, Sizes: sizes}, 2, true, "off the same"},
		{"with files", handoff.Lanes{Mode: handoff.LaneOn, Maps: 8, Sizes: sizes}, lane.Files, false, "on another"},
		{"they end", handoff.Lanes{Mode: handoff.LaneObserve}, 0, false, "observe none"},
	} {
		files := memory(t)
		err := m.Say(&step.say, files[:step.files])
		if (err != nil) != step.fails {
			t.Errorf("%s: %v", step.what, err)
		}
		if got := u.told[len(u.told)-1]; got != step.want {
			t.Errorf("%s: the user was told %q, want %q", step.what, got, step.want)
		}
		for i, f := range files {
			if err := f.Close(); (err != nil) != (i < step.files) {
				t.Errorf("%s: file %d was left open", step.what, i)
			}
		}
		if said := m.Said(); !step.fails && said != (Said{step.say.Mode, step.say.Why, step.say.Maps}) {
			t.Errorf("%s: said %+v", step.what, said)
		}
	}
}

// TestClose: what was mapped is unmapped, also what is used no more, and nothing is taken
// afterwards.
func TestClose(t *testing.T) {
	m := New(nil, slog.New(slog.DiscardHandler))
	var pages []uintptr
	for maps := range uint64(2) {
		if err := m.Say(&handoff.Lanes{Mode: handoff.LaneOn, Maps: maps + 1, Sizes: sizes}, memory(t)); err != nil {
			t.Fatal(err)
		}
		pages = append(pages, uintptr(unsafe.Pointer(&m.now.Flights[0])))
	}
	isMapped := func(page uintptr) bool {
		_, _, errno := unix.Syscall(unix.SYS_MSYNC, page, uintptr(os.Getpagesize()), unix.MS_ASYNC)
		return errno == 0
	}
	if slices.ContainsFunc(pages, func(p uintptr) bool { return !isMapped(p) }) {
		t.Error("a memory that was used is not mapped")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(pages, isMapped) {
		t.Error("a memory is still mapped")
	}
	if err := m.Say(&handoff.Lanes{Mode: handoff.LaneOn, Maps: 9, Sizes: sizes}, memory(t)); err == nil {
		t.Error("memory was taken after Close")
	}
}
