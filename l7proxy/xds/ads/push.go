package ads

import (
	"errors"
	"fmt"
	"io"
	"iter"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/xds"
)

// push is what a control plane sends at once, a DeltaDiscoveryResponse, which is 30 MB for
// the listeners of 10,000 services: it is in memory as it came, and its resources are read
// one after the other. gRPC would have it three times: as frames, as one piece, and as
// messages.
type push struct {
	discoveryv3.DeltaDiscoveryResponse // without its resources

	rest  *mem.Reader // of the whole
	bytes int
	err   error // what is wrong with a resource; the rest of them is lost then
}

// Where the resources are in a DeltaDiscoveryResponse.
const resourcesField = protowire.Number(2)

// decoder reads pushes; other messages it leaves to gRPC's own codec.
type decoder struct{ encoding.CodecV2 }

var _ encoding.CodecV2 = decoder{}

// Unmarshal is part of encoding.CodecV2.
func (d decoder) Unmarshal(data mem.BufferSlice, v any) error {
	p, ok := v.(*push)
	if !ok {
		return d.CodecV2.Unmarshal(data, v) //nolint:wrapcheck // it stands in its place
	}
	// What is said of the push as a whole comes behind the resources.
	around := data.Reader()
	defer around.Close()
	var head []byte
	for around.Remaining() > 0 {
		number, field, err := next(around, func(n protowire.Number) bool { return n == resourcesField })
		if err != nil {
			return err
		}
		if number != resourcesField {
			head = append(head, field...)
		}
	}
	if err := proto.Unmarshal(head, &p.DeltaDiscoveryResponse); err != nil {
		return fmt.Errorf("decode push: %w", err)
	}
	p.rest, p.bytes = data.Reader(), data.Len()
	return nil
}

// resources lists the resources, once, and gives back their memory as it goes on.
func (p *push) resources() iter.Seq[*discoveryv3.Resource] {
	return func(yield func(*discoveryv3.Resource) bool) {
		for p.rest.Remaining() > 0 {
			number, field, err := next(p.rest, func(n protowire.Number) bool { return n != resourcesField })
			if err != nil {
				p.err = err
				return
			}
			if number != resourcesField {
				continue
			}
			_, _, tag := protowire.ConsumeTag(field)
			body, n := protowire.ConsumeBytes(field[tag:])
			if n < 0 {
				p.err = errWire
				return
			}
			r := new(discoveryv3.Resource)
			if err := proto.Unmarshal(body, r); err != nil {
				p.err = fmt.Errorf("decode resource: %w", err)
				return
			}
			if !yield(r) {
				return
			}
		}
	}
}

// close gives back what was not read.
func (p *push) close() { _ = p.rest.Close() }

// errWire says that a push is no protobuf.
var errWire = errors.New("decode push: not in protobuf's form")

// next reads a field with its tag, or passes it over, which returns nothing of it.
func next(r *mem.Reader, over func(protowire.Number) bool) (protowire.Number, []byte, error) {
	tag, err := varint(r)
	if err != nil {
		return 0, nil, err
	}
	number, kind := protowire.DecodeTag(tag)
	head := protowire.AppendVarint(nil, tag)
	var size uint64
	switch kind {
	case protowire.VarintType:
		v, err := varint(r)
		return number, protowire.AppendVarint(head, v), err
	case protowire.BytesType:
		if size, err = varint(r); err != nil {
			return 0, nil, err
		}
		head = protowire.AppendVarint(head, size)
	case protowire.Fixed32Type:
		size = 4
	case protowire.Fixed64Type:
		size = 8
	case protowire.StartGroupType, protowire.EndGroupType:
		return 0, nil, errWire
	default:
		return 0, nil, errWire
	}
	if size > uint64(r.Remaining()) {
		return 0, nil, errWire
	}
	if over(number) {
		_, err := r.Discard(int(size))
		if err != nil {
			return 0, nil, errWire
		}
		return number, nil, nil
	}
	field := make([]byte, uint64(len(head))+size)
	copy(field, head)
	if _, err := io.ReadFull(r, field[len(head):]); err != nil {
		return 0, nil, errWire
	}
	return number, field, nil
}

// varint reads a number.
func varint(r *mem.Reader) (uint64, error) {
	var text [10]byte
	for i := range text {
		b, err := r.ReadByte()
		if err != nil {
			return 0, errWire
		}
		if text[i] = b; b < 0x80 {
			v, n := protowire.ConsumeVarint(text[:i+1])
			if n < 0 {
				return 0, errWire
			}
			return v, nil
		}
	}
	return 0, errWire
}

// resource is what a message says of one resource.
func resource(r *discoveryv3.Resource) xds.Resource {
	body := r.GetResource()
	if body == nil {
		body = new(anypb.Any)
	}
	return xds.Resource{Name: r.GetName(), Version: r.GetVersion(), Body: body}
}
