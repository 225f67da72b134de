// Package relay is the plain Go relay that the bench compares with.
package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
)

// Serve dials the target for each connection that it accepts and copies both ways, half-close
// included. It returns when the listener is closed.
func Serve(listener net.Listener, target string) error {
	for {
		near, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go func() {
			defer near.Close()
			far, err := net.Dial("tcp", target)
			if err != nil {
				return
			}
			defer far.Close()
			done := make(chan struct{})
			go func() {
				copyTo(far, near)
				close(done)
			}()
			copyTo(near, far)
			<-done
		}()
	}
}

// plain hides the methods by which io.Copy would splice in the kernel.
type plain struct{ net.Conn }

func copyTo(to, from net.Conn) {
	_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{plain{from}}, make([]byte, 64<<10))
	_ = to.(*net.TCPConn).CloseWrite()
}
