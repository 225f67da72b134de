package views

import (
	"context"
	"runtime/debug"
	"sync/atomic"
	"time"
)

const (
	// large is how many bytes of pushes leave garbage worth a collection at once; whatever
	// smaller ones leave waits for the minute.
	large  = 8 << 20
	minute = time.Minute
	// settled is how long it is quiet after them: what holds is on disk then too.
	settled = 5 * time.Second
)

// released gives memory back to the kernel once large pushes are over: what they were read
// by is several times what stays, and without much garbage after that the runtime would
// have it for hours.
type released struct{ bytes atomic.Int64 }

// received counts what was received.
func (r *released) received(bytes int) { r.bytes.Add(int64(bytes)) }

// run runs until ctx ends.
func (r *released) run(ctx context.Context) {
	tick := time.NewTicker(settled)
	defer tick.Stop()
	var last int64
	freed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch now := r.bytes.Load(); {
		case now != last:
			last = now
		case now >= large || now > 0 && time.Since(freed) > minute:
			debug.FreeOSMemory()
			last, freed = r.bytes.Add(-now), time.Now()
		}
	}
}
