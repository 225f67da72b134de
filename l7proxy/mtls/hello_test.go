package mtls

import (
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
)

// hello is the beginning of a client that offers some protocols.
func hello(offers ...string) []byte {
	near, far := net.Pipe()
	go func() {
		_ = tls.Client(near, &tls.Config{InsecureSkipVerify: true, NextProtos: offers}).HandshakeContext(context.Background())
	}()
	b := make([]byte, maxHello)
	n, _ := io.ReadAtLeast(far, b, 6)
	_ = far.Close()
	return b[:n]
}

// TestHelloDamaged: whatever a ClientHello looks like, what comes behind it changes nothing of
// what it offers, and what is cut off is not taken for whole. (A fuzzer that goes by coverage
// gets nowhere: TLS draws random numbers.)
func TestHelloDamaged(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	seeds := [][]byte{hello("istio"), hello("istio-peer-exchange", "istio", "h2"), hello(), []byte("\x16\x03\x01\x00\x05\x01hey")}
	read := 0
	for range 20_000 {
		seed := seeds[random.IntN(len(seeds))]
		b := slices.Clone(seed)
		for range random.IntN(3) {
			b[random.IntN(len(b))] = byte(random.Uint32())
		}
		offers, whole, err := parse(b)
		switch {
		case whole && err != nil:
			t.Fatalf("%x: whole, and %v", b, err)
		case !whole:
			continue
		}
		read++
		if more, still, err := parse(append(b, "and the rest"...)); !still || err != nil || !slices.Equal(more, offers) {
			t.Fatalf("%x with more behind it: %q, %v, %v; want %q", b, more, still, err, offers)
		}
		if cut := random.IntN(len(b)); cut < 5+int(b[3])<<8+int(b[4]) {
			if _, whole, _ := parse(b[:cut]); whole {
				t.Fatalf("%x: %d of %d bytes are taken for whole", b, cut, len(b))
			}
		}
	}
	if read < 1000 {
		t.Errorf("only %d were read: this test looks at nothing", read)
	}
}
