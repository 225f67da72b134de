package ads

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// pushed is a response with something in every field, and one that no release knows.
func pushed(tb testing.TB) []byte {
	tb.Helper()
	text, err := proto.Marshal(&discoveryv3.DeltaDiscoveryResponse{
		SystemVersionInfo: "v", TypeUrl: "type", Nonce: "n", RemovedResources: []string{"gone", "too"},
		Resources: []*discoveryv3.Resource{
			{Name: "a", Version: "1", Resource: &anypb.Any{TypeUrl: "type", Value: make([]byte, 300)}}, {}, {Name: "c"},
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	text = protowire.AppendVarint(protowire.AppendTag(text, 900, protowire.VarintType), 7)
	text = protowire.AppendFixed32(protowire.AppendTag(text, 901, protowire.Fixed32Type), 7)
	return protowire.AppendFixed64(protowire.AppendTag(text, 902, protowire.Fixed64Type), 7)
}

// pieces are bytes as they come in frames of a size.
func pieces(text []byte, size int) (s mem.BufferSlice) {
	for len(text) > 0 {
		n := min(size, len(text))
		s = append(s, mem.SliceBuffer(text[:n]))
		text = text[n:]
	}
	return s
}

// readPush reads a response as a stream does.
func readPush(text []byte, size int) (*discoveryv3.DeltaDiscoveryResponse, error) {
	p := new(push)
	if err := (decoder{encoding.GetCodecV2(protocodec.Name)}).Unmarshal(pieces(text, size), p); err != nil {
		return nil, err
	}
	defer p.close()
	m := proto.CloneOf(&p.DeltaDiscoveryResponse)
	for r := range p.resources() {
		m.Resources = append(m.Resources, r)
	}
	return m, p.err
}

// TestPush: what is read one after the other is what gRPC reads at once, however it comes;
// what is cut is an error.
func TestPush(t *testing.T) {
	text := pushed(t)
	want := new(discoveryv3.DeltaDiscoveryResponse)
	if err := proto.Unmarshal(text, want); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 2, 7, 100, len(text)} {
		got, err := readPush(text, size)
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("in frames of %d: %v, %v", size, got, err)
		}
	}
	for n := range text {
		got, err := readPush(text[:n], 16)
		short := new(discoveryv3.DeltaDiscoveryResponse)
		if bad := proto.Unmarshal(text[:n], short); (err == nil) != (bad == nil) || err == nil && !proto.Equal(got, short) {
			t.Errorf("cut to %d bytes: %v, want %v", n, err, bad)
		}
	}
}

// FuzzPush: no bytes bring it down, and it gives up or comes to their end.
func FuzzPush(f *testing.F) {
	f.Add(pushed(f))
	f.Add([]byte{0x12, 0x80, 0x80, 0x80, 0x80, 0x08})
	f.Add([]byte{0x10, 0x01})
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := readPush(text, 16)
		if err == nil && len(got.GetResources()) > len(text) {
			t.Errorf("%d resources of %d bytes", len(got.GetResources()), len(text))
		}
	})
}
