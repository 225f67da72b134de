package lane

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes are how many there are of each, as the agent made the maps.
type Sizes struct {
	Version int `json:"version"`
	Lanes   int `json:"lanes"`
	Routes  int `json:"routes"` // a power of two
	Series  int `json:"series"` // tallies of one CPU
	CPUs    int `json:"cpus"`
	Active  int `json:"active"` // endpoints
	Log     int `json:"log"`    // bytes; a power of two, and of whole pages
}

// The files of the maps, in this order.
const (
	FileLanes = iota
	FileFlights
	FileRoutes
	FileTallies
	FileActive
	FileBudget
	FileLog
	Files // how many
)

// Memory is the pages that the programs and the proxy share. Its members alias them:
// what the programs write too is read and written by sync/atomic.
type Memory struct {
	Sizes   Sizes
	Lanes   []Lane
	Flights []Flight // Flights of each lane
	Routes  []Route
	Tallies []Tally  // Series of each CPU
	Counted []Tally  // of each series, what proxies have counted
	Active  []uint64 // requests in flight of endpoints
	Budget  *Budget
	Log     *Log

	mapped [][]byte
}

var errSizes = errors.New("the sizes of the lanes' maps make no sense")

// Open maps the files of the maps, which stay the caller's.
func Open(files []*os.File, sizes Sizes) (*Memory, error) {
	s := &sizes
	switch {
	case s.Version != Version:
		return nil, fmt.Errorf("map lanes: the agent's have version %d, not %d", s.Version, Version)
	case len(files) != Files || min(s.Lanes, s.Routes, s.Series, s.CPUs, s.Active, s.Log) <= 0 || s.Routes&(s.Routes-1) != 0:
		return nil, fmt.Errorf("map lanes: %w: %+v, %d files", errSizes, sizes, len(files))
	}
	m := &Memory{Sizes: sizes}
	err := errors.Join(
		mapped(m, files[FileLanes], s.Lanes, &m.Lanes),
		mapped(m, files[FileFlights], s.Lanes*Flights, &m.Flights),
		mapped(m, files[FileRoutes], s.Routes, &m.Routes),
		mapped(m, files[FileTallies], s.Series*(s.CPUs+1), &m.Tallies),
		mapped(m, files[FileActive], s.Active, &m.Active),
	)
	if err == nil {
		at := s.Series * s.CPUs
		m.Tallies, m.Counted = m.Tallies[:at], m.Tallies[at:]
	}
	var budget []Budget
	err = errors.Join(err, mapped(m, files[FileBudget], 1, &budget))
	if err == nil {
		m.Budget = &budget[0]
		m.Log, err = openLog(m, files[FileLog], s.Log)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map lanes: %w", err), m.Close())
	}
	return m, nil
}

// mapped maps the first n values of a file.
func mapped[T any](m *Memory, f *os.File, n int, to *[]T) error {
	var one T
	b, err := m.mmap(f, 0, n*int(unsafe.Sizeof(one)), unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return err
	}
	*to = unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n)
	return nil
}

func (m *Memory) mmap(f *os.File, offset int64, size, prot int) ([]byte, error) {
	b, err := unix.Mmap(int(f.Fd()), offset, size, prot, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap %s: %w", f.Name(), err)
	}
	m.mapped = append(m.mapped, b)
	return b, nil
}

// Close unmaps everything. Nobody may use it any more.
func (m *Memory) Close() error {
	errs := []error{}
	for _, b := range m.mapped {
		if err := unix.Munmap(b); err != nil {
			errs = append(errs, fmt.Errorf("unmap lanes: %w", err))
		}
	}
	m.mapped = nil
	return errors.Join(errs...)
}

// Ask asks a question of a socket. Unix.ENOPROTOOPT says that no program answers: there
// are no lanes, or the socket is none of theirs.
func Ask(fd, question, place int) (State, error) {
	var s State
	size := uint32(unsafe.Sizeof(s))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(question), uintptr(place),
		uintptr(unsafe.Pointer(&s)), uintptr(unsafe.Pointer(&size)), 0)
	if errno == unix.EOPNOTSUPP { // what IPv4 says of a level that it does not know
		errno = unix.ENOPROTOOPT
	}
	if errno != 0 {
		return s, fmt.Errorf("ask socket for its lane: %w", errno)
	}
	return s, nil
}

// Quiesce returns when no program runs any more that began before: what it has queued is
// then held by State.Holders. It takes a few milliseconds.
func Quiesce() error {
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, 1 /* MEMBARRIER_CMD_GLOBAL */, 0, 0); errno != 0 {
		return fmt.Errorf("membarrier: %w", errno)
	}
	return nil
}

// Now is the programs' clock: CLOCK_MONOTONIC, in nanoseconds; 0 if it cannot be read.
func Now() uint64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return uint64(now.Nano())
}
