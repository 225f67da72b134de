package sock

import (
	"errors"
	"io"
)

// Pipe copies until the end of src and passes the end on. A broken side breaks
// the other one.
func Pipe(dst, src *Conn) int64 {
	n, err := move(dst, src)
	if err != nil {
		_ = dst.Reset()
		_ = src.tcp.Close()
		return n
	}
	_ = dst.CloseWrite()
	return n
}

// move copies until the end of src, within the kernel where no byte is TLS's.
func move(dst, src *Conn) (n int64, err error) {
	if !dst.Secured() && !src.Secured() {
		return io.Copy(dst.tcp, src.tcp) //nolint:wrapcheck // Pipe tells nobody
	}
	for {
		if err := src.Fill(); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return n, err
		}
		b := src.Bytes()
		if err := dst.Send(b); err != nil {
			return n, err
		}
		n += int64(len(b))
		src.Discard(len(b))
	}
}
