package sock

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// selfSigned is the certificate of these tests: who the peer is, is its users' to check.
func selfSigned(tb testing.TB) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// securePair is pair over TLS, of a version; the Conn is the client.
func securePair(t *testing.T, version uint16) (*Conn, *tls.Conn, net.Conn) {
	t.Helper()
	c, tcp := pair(t)
	peer := tls.Server(tcp, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, MaxVersion: version})
	done := make(chan error, 1)
	go func() { done <- peer.Handshake() }()
	config := &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true}
	state, err := c.Secure(t.Context(), tls.Client, config)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if state.Version != version || !c.Secured() {
		t.Fatalf("version %x, want %x", state.Version, version)
	}
	return c, peer, tcp
}

func TestSecured(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			check := watchGoroutines(t)
			c, peer, _ := securePair(t, version)
			secureBothWays(t, c, peer)
			check()
		})
	}
}

// secureBothWays sends frames of many sizes and many senders one way, has them come back,
// and ends both sides.
func secureBothWays(t *testing.T, c *Conn, peer *tls.Conn) {
	t.Helper()
	const senders, frames = 4, 40
	size := func(s, n int) int { return (s*40_961 + n*n*97) % 70_000 }
	var sending sync.WaitGroup
	for s := range senders {
		sending.Go(func() {
			for n := range frames {
				b := frame(s, n, size(s, n))
				if err := c.Send(b[:len(b)/3], b[len(b)/3:]); err != nil {
					t.Errorf("Send = %v", err)
				}
			}
		})
	}
	echoed := make(chan error, 1)
	go func() {
		_, err := io.Copy(peer, peer)
		echoed <- errors.Join(err, peer.CloseWrite())
	}()
	go func() {
		sending.Wait()
		c.Drained()
		_ = c.CloseWrite()
	}()
	counts, err := readFrames(bufio.NewReader(&reader{c}))
	if err != nil {
		t.Errorf("read: %v", err)
	}
	for s := range senders {
		if counts[s] != frames {
			t.Errorf("sender %d: %d frames came back, want %d", s, counts[s], frames)
		}
	}
	if err := <-echoed; err != nil {
		t.Errorf("peer: %v", err)
	}
	if c.Reader.secure.wire.in != nil || c.writer.secure.wire.out != nil {
		t.Error("a connection with nothing to read or write keeps buffers of records")
	}
}

// reader reads a Conn as bufio wants it.
type reader struct{ c *Conn }

func (r *reader) Read(b []byte) (int, error) {
	for len(r.c.Bytes()) == 0 {
		if err := r.c.Fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, r.c.Bytes())
	r.c.Discard(n)
	return n, nil
}

// TestSecuredRecords: what is sent at once is a few large records, whatever it is made of.
func TestSecuredRecords(t *testing.T) {
	c, peer, _ := securePair(t, tls.VersionTLS13)
	spans := make([][]byte, 400)
	for i := range spans {
		spans[i] = bytes.Repeat([]byte{byte(i)}, 128)
	}
	sent := make(chan error, 1)
	go func() { sent <- c.Send(spans...) }()
	b := make([]byte, 64<<10)
	records := 0
	for total := 0; total < 400*128; records++ {
		n, err := peer.Read(b) // one record at most
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range b[:n] {
			if v != byte((total+i)/128) {
				t.Fatalf("byte %d is %d", total+i, v)
			}
		}
		total += n
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if records > 4 {
		t.Errorf("%d records for %d bytes, want them as large as may be", records, 400*128)
	}
}

// TestSecuredBatch: records that have come together are one Fill.
func TestSecuredBatch(t *testing.T) {
	c, peer, _ := securePair(t, tls.VersionTLS13)
	const n = 100
	for range n {
		if _, err := peer.Write(bytes.Repeat([]byte{7}, 100)); err != nil {
			t.Fatal(err)
		}
	}
	fills, got := 0, 0
	for ; got < n*100; fills++ {
		if err := c.Fill(); err != nil {
			t.Fatal(err)
		}
		got += len(c.Bytes())
		c.Discard(len(c.Bytes()))
	}
	if fills > n/4 {
		t.Errorf("%d fills for %d records that had come", fills, n)
	}
}

// TestSecuredPeek: what was seen is told by the next Fill, and a wait does not break a record.
func TestSecuredPeek(t *testing.T) {
	c, peer, _ := securePair(t, tls.VersionTLS13)
	var b [8]byte
	if n, err := c.Peek(b[:], 0, time.Millisecond); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Peek = %d, %v, want none and that the time is over", n, err)
	}
	for i, want := range []string{"he", "hello"} {
		if _, err := peer.Write([]byte(want[2*i:])); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Peek(b[:], 2*i, 30*time.Second); string(b[:n]) != want || err != nil {
			t.Fatalf("Peek = %q, %v, want %q", b[:n], err, want)
		}
	}
	if err := peer.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Peek(b[:], 5, 30*time.Second); n != 5 || err != nil {
		t.Fatalf("Peek at the end = %d, %v", n, err)
	}
	if err := c.Fill(); err != nil || string(c.Bytes()) != "hello" {
		t.Fatalf("Fill = %v with %q", err, c.Bytes())
	}
	c.Discard(5)
	if err := c.Fill(); !errors.Is(err, io.EOF) {
		t.Fatalf("Fill = %v, want the end", err)
	}
}

// TestSecuredInterrupt: a deadline inside a record loses none of it.
func TestSecuredInterrupt(t *testing.T) {
	c, tcp := pair(t)
	half := &halving{Conn: tcp, rest: make(chan struct{})}
	peer := tls.Server(half, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	go func() { _ = peer.Handshake() }()
	config := &tls.Config{InsecureSkipVerify: true}
	if _, err := c.Secure(t.Context(), tls.Client, config); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	half.on.Store(true)
	go func() { _, err := peer.Write([]byte("whole")); wrote <- err }()
	for range 3 {
		c.Within(20 * time.Millisecond)
		if err := c.Fill(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Fill = %v, want that the time is over", err)
		}
	}
	c.Resume()
	close(half.rest)
	if err := c.Fill(); err != nil || string(c.Bytes()) != "whole" {
		t.Fatalf("Fill = %v with %q", err, c.Bytes())
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

// TestSecuredClose: the peer hears of the end, and a peer that reads nothing holds nobody up.
func TestSecuredClose(t *testing.T) {
	c, peer, _ := securePair(t, tls.VersionTLS13)
	if err := c.Send([]byte("last")); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if b, err := io.ReadAll(peer); err != nil || string(b) != "last" {
		t.Errorf("the peer read %q, %v", b, err)
	}
	c, peer, _ = securePair(t, tls.VersionTLS13)
	_ = c.Reset()
	if b, err := io.ReadAll(peer); err == nil {
		t.Errorf("the peer read %q and an end as it should be, want a reset", b)
	}
	c, _, _ = securePair(t, tls.VersionTLS13)
	sent := make(chan error, 1)
	go func() { sent <- c.Send(make([]byte, 16<<20)) }()
	eventually(t, "a write is in progress", c.Writing)
	_ = c.Close()
	select {
	case err := <-sent:
		if err == nil {
			t.Error("Send = nil, of what nobody read")
		}
	case <-time.After(30 * time.Second):
		t.Error("Send waits behind Close")
	}
}

// TestSecuredForgery: a byte that is not the peer's ends the connection.
func TestSecuredForgery(t *testing.T) {
	c, peer, below := securePair(t, tls.VersionTLS13)
	if _, err := peer.Write([]byte("true")); err != nil {
		t.Fatal(err)
	}
	record := binary.BigEndian.AppendUint16([]byte{23, 3, 3}, 40)
	if _, err := below.Write(append(record, make([]byte, 40)...)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	var err error
	for err == nil {
		err = c.Fill()
		got = append(got, c.Bytes()...)
		c.Discard(len(c.Bytes()))
	}
	if string(got) != "true" || errors.Is(err, io.EOF) {
		t.Errorf("read %q, %v", got, err)
	}
}
