package sock

import (
	"io"
	"net"
)

// Pipe copies until the end of src and passes the end on. A broken side breaks
// the other one.
func Pipe(dst, src *net.TCPConn) int64 {
	n, err := io.Copy(dst, src)
	if err != nil {
		_ = dst.SetLinger(0)
		_ = dst.Close()
		_ = src.Close()
		return n
	}
	_ = dst.CloseWrite()
	return n
}
