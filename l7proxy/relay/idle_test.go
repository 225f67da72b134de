package relay

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/sock/socktest"
)

// TestExpire: a connection ends in order when nothing has moved on either side for its
// time, and not while something moves in one direction, on one side.
func TestExpire(t *testing.T) {
	const limit = 300 * time.Millisecond
	consumer, client := socktest.Pair(t)
	provider, server := socktest.Pair(t)
	done := make(chan struct{})
	defer close(done)
	go func() { _, _ = io.Copy(provider.TCP(), consumer.TCP()); _ = provider.TCP().CloseWrite() }()
	go func() { _, _ = io.Copy(consumer.TCP(), provider.TCP()); _ = consumer.TCP().CloseWrite() }()
	go expire(limit, done, consumer, provider)
	buf := make([]byte, 1)
	var last time.Time
	for end := time.Now().Add(4 * limit); time.Now().Before(end); time.Sleep(limit / 20) {
		last = time.Now()
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(server, buf); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []net.Conn{client, server} {
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		if n, err := c.Read(buf); !errors.Is(err, io.EOF) {
			t.Errorf("%d bytes, %v; want the end", n, err)
		}
	}
	if took := time.Since(last); took < limit*9/10 { // the kernel counts in ticks
		t.Errorf("it ended %s after the last byte, want %s at least", took, limit)
	}
}

// TestExpireEnds: the clock of a connection that has ended ends.
func TestExpireEnds(t *testing.T) {
	c, _ := socktest.Pair(t)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		expire(time.Hour, done, c, c)
	}()
	close(done)
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("it does not end")
	}
}
