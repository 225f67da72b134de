package dubbo

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// declaring makes a request's body whose attachments declare argument 1 as a
// callback, as Java writes them.
func declaring(serialization byte, argument []byte) []byte {
	if serialization == Fastjson2 {
		b := append([]byte("\x00\x00\x00\x06\x4e2.0.2"), argument...)
		return append(b, "\xa6\x5bsys_callback_arg-1\x4d1234\xa5"...)
	}
	b := append([]byte("\x052.0.2\x07org.x.S\x050.0.0\x03sub"), argument...)
	return append(b, "H\x12sys_callback_arg-1\x041234Z"...)
}

func TestDeclaresCallback(t *testing.T) {
	noise := make([]byte, 100<<10)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(noise)
	under := bytes.Repeat([]byte("_callback_arg+sys_"), 1000)
	for _, serialization := range []byte{Hessian2, Fastjson2} {
		for name, argument := range map[string][]byte{"none": nil, "noise": noise, "underscores": under} {
			body := declaring(serialization, argument)
			if !DeclaresCallback(body) {
				t.Errorf("serialization %d, argument %s: not seen", serialization, name)
			}
			if DeclaresCallback(bytes.Replace(body, []byte("sys_callback_arg-"), []byte("sys_callback_arh-"), 1)) {
				t.Errorf("serialization %d, argument %s: seen where there is none", serialization, name)
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { DeclaresCallback(noise) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// BenchmarkDeclaresCallback looks through bodies that declare nothing.
func BenchmarkDeclaresCallback(b *testing.B) {
	text := []byte(`Lorem_ipsum dolor sit amet, order_id org.example.Order {"customerName": 12}`)
	for _, size := range []int{183, 1 << 10, 16 << 10, 200 << 10} {
		noise := make([]byte, size)
		random := rand.NewChaCha8([32]byte{1})
		_, _ = random.Read(noise)
		for name, body := range map[string][]byte{
			"noise": noise, "text": bytes.Repeat(text, size/len(text)+1)[:size],
		} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					if DeclaresCallback(body) {
						b.Fatal("found what is not there")
					}
				}
			})
		}
	}
}
