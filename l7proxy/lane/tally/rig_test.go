package tally

import (
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/histogram"
)

// rig is a Table on real shared pages, of which the test is the kernel's side.
type rig struct {
	*Table

	t       *testing.T
	memory  *lane.Memory
	log     []byte // the log's pages, as the programs have them
	written uint64 // bytes of the log
}

const logSize = 1 << 16

func newRig(t *testing.T, limit uint32) *rig {
	t.Helper()
	r := &rig{Table: New(limit), t: t}
	r.memory, r.log = newMemory(t)
	r.Use(r.memory)
	return r
}

// newMemory is what the agent would hand over, and the log's pages in it.
func newMemory(t *testing.T) (m *lane.Memory, log []byte) {
	t.Helper()
	sizes := lane.Sizes{Version: lane.Version, Lanes: 4, Routes: 8, Series: 6, CPUs: 3, Active: 1, Log: logSize}
	page := os.Getpagesize()
	bytes := [lane.Files]int{
		lane.FileLanes:   sizes.Lanes * int(lane.SizeOfLane),
		lane.FileFlights: sizes.Lanes * lane.Flights * int(lane.SizeOfFlight),
		lane.FileRoutes:  sizes.Routes * int(lane.SizeOfRoute),
		lane.FileTallies: sizes.Series * (sizes.CPUs + 1) * int(lane.SizeOfTally),
		lane.FileActive:  8,
		lane.FileBudget:  int(lane.SizeOfBudget),
		lane.FileLog:     2*page + 2*logSize,
	}
	var files []*os.File
	for _, size := range bytes {
		fd, err := unix.MemfdCreate("lane", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		file := os.NewFile(uintptr(fd), "lane")
		t.Cleanup(func() { file.Close() })
		if err := file.Truncate(int64(size)); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	m, err := lane.Open(files, sizes)
	if err != nil {
		t.Fatal(err)
	}
	log, err = unix.Mmap(int(files[lane.FileLog].Fd()), int64(page), page+logSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	return m, log
}

// answer is what a program does when a call ends.
func (r *rig) answer(cpu int, number uint32, took time.Duration) {
	one := &r.memory.Tallies[cpu*r.memory.Sizes.Series+int(number)]
	add(&one.Durations, &one.Nanoseconds, uint64(took), histogram.Durations)
	add(&one.AnswerSizes, &one.AnswerBytes, 80, histogram.Sizes)
	add(&one.RequestSizes, &one.RequestBytes, 300, histogram.Sizes)
}

func add(counts *[lane.Bounds + 1]uint64, sum *uint64, value uint64, l *histogram.Layout) {
	var h histogram.Histogram
	h.Observe(l, int64(value))
	var one histogram.Tally
	one.Add(&h)
	for i, n := range one.Counts {
		atomic.AddUint64(&counts[i], n)
	}
	atomic.AddUint64(sum, value)
}

// write puts a record into the log, as the kernel's ring buffer has it.
func (r *rig) write(rec lane.Record) {
	page := os.Getpagesize()
	at := r.written % logSize
	*(*lane.Record)(unsafe.Pointer(&r.log[uint64(page)+at+8])) = rec
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&r.log[uint64(page)+at])), uint32(lane.SizeOfRecord))
	r.written += uint64(lane.SizeOfRecord) + 8
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&r.log[0])), r.written)
}

func (r *rig) put(call *rpc.Call, serialization uint8) uint32 {
	r.t.Helper()
	number, ok := r.Put(call, serialization, nil)
	if !ok || number == 0 {
		r.t.Fatalf("a call has series %d, %v", number, ok)
	}
	return number
}

// observer notes what it is told.
type observer struct {
	calls, bytes uint64
	kinds        map[uint8]uint64
	told         []rpc.Record
	tells        bool
}

var _ rpc.Aggregator = (*observer)(nil)

func (o *observer) Observe(*rpc.Record) {}
func (o *observer) Aggregate(a *rpc.Aggregate) {
	o.calls += a.Calls()
	o.bytes += a.Request.Sum
	if o.kinds == nil {
		o.kinds = map[uint8]uint64{}
	}
	o.kinds[a.Serialization] += a.Calls()
}
func (o *observer) Tells() bool        { return o.tells }
func (o *observer) Tell(r *rpc.Record) { o.told = append(o.told, *r) }

func newCall() (*rpc.Call, *observer) {
	o := &observer{}
	return &rpc.Call{Interface: "I", Method: "m", Observer: o}, o
}

var consumer = netip.MustParseAddrPort("10.0.1.1:40000")

func sibling(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), a.Port()+1) }
