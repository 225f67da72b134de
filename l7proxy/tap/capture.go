package tap

import (
	"bytes"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
)

const (
	// maxCapture is how much of one frame is copied, in bytes.
	maxCapture = 64 << 10
	// maxCaptured bounds what a tap holds of all frames: of calls that wait for
	// their answers, and of those that wait for the reader.
	maxCaptured = 16 << 20
)

var _ rpc.Capture = (*capture)(nil)

// capture is the beginnings of a call's frames. One goroutine at a time uses it:
// whoever has the request.
type capture struct {
	watch             *watch
	request, response []byte
	// requestSize and responseSize are the lengths of the whole frames.
	requestSize, responseSize int
}

// capture copies a request, or returns nil if the reader is behind or the tap
// holds as much as it may.
func (w *watch) capture(frame []byte, size int) *capture {
	if len(w.events) > maxWaiting/2 {
		return nil
	}
	copied := w.copy(frame)
	if copied == nil {
		return nil
	}
	return &capture{watch: w, request: copied, requestSize: size}
}

func (w *watch) copy(frame []byte) []byte {
	frame = frame[:min(len(frame), maxCapture)]
	if w.room.Add(-int64(len(frame))) < 0 {
		w.room.Add(int64(len(frame)))
		return nil
	}
	return bytes.Clone(frame)
}

// Answer is part of rpc.Capture.
func (c *capture) Answer(frame []byte, size int) {
	c.response, c.responseSize = c.watch.copy(frame), size
}

// release gives the room back. A nil capture holds none.
func (c *capture) release() {
	if c != nil {
		c.watch.room.Add(int64(len(c.request) + len(c.response)))
		c.request, c.response = nil, nil
	}
}

// bodies returns what is behind the frames' headers.
func (c *capture) bodies() (request, response *admin.TapBody) {
	return body(c.request, c.requestSize), body(c.response, c.responseSize)
}

func body(frame []byte, size int) *admin.TapBody {
	if len(frame) < dubbo.HeaderLen {
		return nil
	}
	h, err := dubbo.ParseHeader(frame)
	if err != nil {
		return nil
	}
	return &admin.TapBody{Serialization: h.Serialization(), Size: size - dubbo.HeaderLen, Data: frame[dubbo.HeaderLen:]}
}
