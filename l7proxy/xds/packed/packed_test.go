package packed

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func service(i int) []byte {
	name := fmt.Sprintf("outbound|20880||s%05d.shop.svc.cluster.local", i)
	return []byte(strings.Repeat("what all of them say of the mesh; ", 20) + name + "\x00\x01 and then " + name + " again")
}

// TestPack: what is unpacked is what was packed, and it was small.
func TestPack(t *testing.T) {
	press := new(Press)
	for _, body := range [][]byte{
		service(1), service(1), service(2), nil, []byte("x"), []byte("1234567"), bytes.Repeat([]byte("a"), 100_000),
		bytes.Repeat(service(3), 300), []byte("nothing like the others"),
	} {
		packed := press.Pack(body)
		if got := press.Unpack(packed); !bytes.Equal(got, body) {
			t.Errorf("%d bytes came back as %d: %.60q", len(body), len(got), got)
		}
		if len(body) > 500 && len(packed) > len(body)/10 {
			t.Errorf("%d bytes are %d packed", len(body), len(packed))
		}
	}
}

// TestTogether packs in several goroutines.
func TestTogether(t *testing.T) {
	press := new(Press)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if body := service(i); !bytes.Equal(press.Unpack(press.Pack(body)), body) {
				t.Errorf("body %d came back as another", i)
			}
		})
	}
	all.Wait()
}

// FuzzPack packs any two bodies.
func FuzzPack(f *testing.F) {
	f.Add(service(1), service(2))
	f.Add([]byte("aaaaaaaaaaaaaaaaaaaa"), []byte("aaaaaaaaaaaaaaaaaaaaaaaaaab"))
	f.Fuzz(func(t *testing.T, model, body []byte) {
		press := new(Press)
		for _, b := range [][]byte{model, body, model} {
			if got := press.Unpack(press.Pack(b)); !bytes.Equal(got, b) {
				t.Errorf("%q came back as %q", b, got)
			}
		}
	})
}
