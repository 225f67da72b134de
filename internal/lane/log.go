package lane

import (
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Log is the consumer's side of the BPF ring buffer of calls: two pages of positions and
// the data, which the kernel maps twice in a row, so that a record is never split.
type Log struct {
	fd       int
	consumer *uint64
	producer *uint64
	data     []byte // twice the size
	mask     uint64
}

// The header of a record: its length, and two flags in it (linux/bpf.h, BPF_RINGBUF_*).
const (
	ringHeader  = 8
	ringBusy    = 1 << 31
	ringDiscard = 1 << 30
)

func openLog(m *Memory, f *os.File, size int) (*Log, error) {
	page := os.Getpagesize()
	consumer, err := m.mmap(f, 0, page, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return nil, err
	}
	rest, err := m.mmap(f, int64(page), page+2*size, unix.PROT_READ)
	if err != nil {
		return nil, err
	}
	return &Log{
		fd: int(f.Fd()), mask: uint64(size - 1), data: rest[page:],
		consumer: (*uint64)(unsafe.Pointer(unsafe.SliceData(consumer))),
		producer: (*uint64)(unsafe.Pointer(unsafe.SliceData(rest))),
	}, nil
}

// Read calls f with the records that are there, and returns how many. One goroutine reads.
func (l *Log) Read(f func(r *Record)) int {
	n := 0
	at := atomic.LoadUint64(l.consumer)
	for end := atomic.LoadUint64(l.producer); at < end; end = atomic.LoadUint64(l.producer) {
		head := (*uint32)(unsafe.Pointer(&l.data[at&l.mask]))
		length := atomic.LoadUint32(head)
		if length&ringBusy != 0 {
			break // it is being written
		}
		if length&ringDiscard == 0 && uintptr(length) >= SizeOfRecord {
			f((*Record)(unsafe.Pointer(&l.data[at&l.mask+ringHeader])))
			n++
		}
		at += (uint64(length&^(ringBusy|ringDiscard)) + ringHeader + 7) &^ 7
		atomic.StoreUint64(l.consumer, at)
	}
	return n
}
