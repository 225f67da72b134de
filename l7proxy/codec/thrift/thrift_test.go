package thrift

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// written is the frame of a message as Thrift's own library writes it.
func written(tb testing.TB, name string, kind thrift.TMessageType, id int32, body func(ctx context.Context, p thrift.TProtocol) error) []byte {
	tb.Helper()
	ctx := context.Background()
	b := thrift.NewTMemoryBuffer()
	p := thrift.NewTBinaryProtocolConf(thrift.NewTFramedTransportConf(b, nil), nil)
	if err := errors.Join(p.WriteMessageBegin(ctx, name, kind, id), body(ctx, p), p.WriteMessageEnd(ctx), p.Flush(ctx)); err != nil {
		tb.Fatal(err)
	}
	return bytes.Clone(b.Bytes())
}

// everything is a struct with a field of each type.
func everything(ctx context.Context, p thrift.TProtocol) error {
	var errs []error
	field := func(kind thrift.TType, id int16, write func() error) {
		errs = append(errs, p.WriteFieldBegin(ctx, "", kind, id), write(), p.WriteFieldEnd(ctx))
	}
	field(thrift.BOOL, 1, func() error { return p.WriteBool(ctx, true) })
	field(thrift.BYTE, 2, func() error { return p.WriteByte(ctx, -2) })
	field(thrift.I16, 3, func() error { return p.WriteI16(ctx, -300) })
	field(thrift.I32, 4, func() error { return p.WriteI32(ctx, 70000) })
	field(thrift.I64, 5, func() error { return p.WriteI64(ctx, -1<<40) })
	field(thrift.DOUBLE, 6, func() error { return p.WriteDouble(ctx, 2.5) })
	field(thrift.STRING, 7, func() error { return p.WriteString(ctx, "gold") })
	field(thrift.LIST, 8, func() error {
		return errors.Join(p.WriteListBegin(ctx, thrift.I32, 2), p.WriteI32(ctx, 1), p.WriteI32(ctx, 2))
	})
	field(thrift.SET, 9, func() error { return errors.Join(p.WriteSetBegin(ctx, thrift.STRING, 1), p.WriteString(ctx, "x")) })
	field(thrift.MAP, 10, func() error {
		return errors.Join(p.WriteMapBegin(ctx, thrift.STRING, thrift.LIST, 1), p.WriteString(ctx, "k"),
			p.WriteListBegin(ctx, thrift.BOOL, 1), p.WriteBool(ctx, false))
	})
	field(thrift.STRUCT, 11, func() error {
		return errors.Join(p.WriteFieldBegin(ctx, "", thrift.I16, 1), p.WriteI16(ctx, 5), p.WriteFieldStop(ctx))
	})
	field(thrift.UUID, 12, func() error { return p.WriteUUID(ctx, thrift.Tuuid{1}) })
	field(thrift.STRING, 14, func() error { return p.WriteString(ctx, "last") })
	return errors.Join(append(errs, p.WriteFieldStop(ctx))...)
}

func TestFrames(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind thrift.TMessageType
		want codec.Header
		p    codec.Prefix
	}{
		{"place", thrift.CALL, codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay}, codec.Prefix{Method: "place"}},
		{"Orders:place", thrift.CALL, codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay}, codec.Prefix{Path: "Orders", Method: "place"}},
		{"Orders:note", thrift.ONEWAY, codec.Header{Flags: codec.FlagRequest}, codec.Prefix{Path: "Orders", Method: "note"}},
		{"place", thrift.REPLY, codec.Header{Status: 20}, codec.Prefix{Method: "place"}},
		{"place", thrift.EXCEPTION, codec.Header{Status: 80}, codec.Prefix{Method: "place"}},
		{strings.Repeat("m", 512), thrift.CALL, codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay}, codec.Prefix{Method: strings.Repeat("m", 512)}},
	} {
		frame := written(t, tt.name, tt.kind, -7, everything)
		tt.want.ID, tt.want.Head, tt.want.Body = 1<<32-7, 4, len(frame)-4
		tt.p.End = 8 + len(tt.name)
		read := 4 + 8 + len(tt.name) + 4
		for n := range len(frame) + 1 {
			h, err := frames{}.ParseHeader(frame[:n])
			if n < read && !errors.Is(err, codec.ErrShort) {
				t.Fatalf("%s: %d of %d bytes: %v", tt.name, n, read, err)
			} else if n >= read && (err != nil || h != tt.want) {
				t.Fatalf("%s: %d bytes: %+v, %v; want %+v", tt.name, n, h, err, tt.want)
			}
			if n < 4 {
				continue
			}
			p, state := requests{}.Prefix(h, frame[4:n])
			if n < 4+tt.p.End && state != codec.More {
				t.Fatalf("%s: %d bytes of the body: %v", tt.name, n-4, state)
			} else if n >= 4+tt.p.End && (state != codec.Complete || p != tt.p) {
				t.Fatalf("%s: %d bytes of the body: %+v, %v; want %+v", tt.name, n-4, p, state, tt.p)
			}
		}
	}
}

func TestNoFrames(t *testing.T) {
	for name, b := range map[string]string{
		"a longer name":               "\x00\x00\x03\x00\x80\x01\x00\x01\x00\x00\x02\x01",
		"a name that does not fit":    "\x00\x00\x00\x10\x80\x01\x00\x01\x00\x00\x00\x05",
		"a negative length":           "\xff\x00\x00\x10\x80\x01\x00\x01\x00\x00\x00\x01",
		"a negative length of a name": "\x00\x00\x00\x10\x80\x01\x00\x01\xff\xff\xff\xff",
		"an old message":              "\x00\x00\x00\x20\x00\x00\x00\x01a\x01\x00\x00\x00\x01",
		"a type of no message":        "\x00\x00\x00\x20\x80\x01\x00\x05\x00\x00\x00\x01a\x00\x00\x00\x01",
	} {
		if h, err := (frames{}).ParseHeader([]byte(b)); err == nil || errors.Is(err, codec.ErrShort) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
	for name, n := range map[string]string{"no name": "", "not UTF-8": "\xff"} {
		frame := written(t, n, thrift.CALL, 1, everything)
		if p, state := (requests{}).Prefix(codec.Header{}, frame[4:]); state != codec.Undecodable {
			t.Errorf("%s: %+v, %v", name, p, state)
		}
	}
}

func TestArguments(t *testing.T) {
	frame := written(t, "m", thrift.CALL, 1, everything)
	b := requests{}.NewBody()
	want := map[int]string{0: "true", 1: "-2", 2: "-300", 3: "70000", 4: "-1099511627776", 5: "2.5", 6: "gold", 13: "last"}
	b.Reset(codec.Header{}, frame[4:], codec.Prefix{})
	for i := range 15 {
		text, ok, err := b.Argument(i)
		if w, has := want[i]; err != nil || ok != has || text != w {
			t.Errorf("argument %d: %q, %v, %v; want %q", i, text, ok, err, w)
		}
	}
	for n := range len(frame) - 4 {
		b.Reset(codec.Header{}, frame[4:4+n], codec.Prefix{})
		if text, ok, err := b.Argument(13); err == nil {
			t.Fatalf("of %d bytes: %q, %v", n, text, ok)
		}
	}
	twice := written(t, "m", thrift.CALL, 1, func(ctx context.Context, p thrift.TProtocol) error {
		return errors.Join(p.WriteFieldBegin(ctx, "", thrift.I16, 1), p.WriteI16(ctx, 5),
			p.WriteFieldBegin(ctx, "", thrift.I16, 1), p.WriteI16(ctx, 6), p.WriteFieldStop(ctx))
	})
	b.Reset(codec.Header{}, twice[4:], codec.Prefix{})
	if text, ok, err := b.Argument(0); err == nil {
		t.Errorf("one of two: %q, %v", text, ok)
	}
	deep := []byte("\x80\x01\x00\x01\x00\x00\x00\x01m\x00\x00\x00\x01" + strings.Repeat("\x0c\x00\x02", 1<<20))
	b.Reset(codec.Header{}, deep, codec.Prefix{})
	if _, _, err := b.Argument(0); err == nil {
		t.Error("a struct that is nested without end has arguments")
	}
	if _, ok, err := b.Lookup("tier"); ok || err != nil {
		t.Errorf("an attachment: %v, %v", ok, err)
	}
}

func TestAnswers(t *testing.T) {
	field := func(id int16) func(context.Context, thrift.TProtocol) error {
		return func(ctx context.Context, p thrift.TProtocol) error {
			return errors.Join(p.WriteFieldBegin(ctx, "", thrift.I16, id), p.WriteI16(ctx, 5), p.WriteFieldStop(ctx))
		}
	}
	void := func(ctx context.Context, p thrift.TProtocol) error { return p.WriteFieldStop(ctx) }
	nothing := func(context.Context, thrift.TProtocol) error { return nil }
	for name, tt := range map[string]struct {
		frame []byte
		want  rpc.Result
	}{
		"a value":      {written(t, "m", thrift.REPLY, 1, field(0)), rpc.ResultValue},
		"void":         {written(t, "m", thrift.REPLY, 1, void), rpc.ResultValue},
		"an exception": {written(t, "m", thrift.REPLY, 1, field(1)), rpc.ResultException},
		"its own":      {written(t, "m", thrift.EXCEPTION, 1, field(0)), rpc.ResultError},
		"nothing":      {written(t, "m", thrift.REPLY, 1, nothing), rpc.ResultError},
	} {
		h, err := frames{}.ParseHeader(tt.frame)
		if got := (answers{}).Kind(h, tt.frame[4:]); err != nil || got != tt.want {
			t.Errorf("%s is %v, want %v", name, got, tt.want)
		}
	}
}

// TestReplies reads them with Thrift's own library.
func TestReplies(t *testing.T) {
	ctx := context.Background()
	req := codec.Asked{ID: 1<<32 - 9, Method: "place"}
	for name, tt := range map[string]struct {
		reply func() ([]byte, byte)
		text  string
		kind  int32
	}{
		"no route": {func() ([]byte, byte) { return replies{}.Local(req, rpc.WhyNoRoute, "no route") }, "no route", thrift.UNKNOWN_METHOD},
		"large":    {func() ([]byte, byte) { return replies{}.Local(req, rpc.WhyTooLarge, "large") }, "large", thrift.PROTOCOL_ERROR},
		"denied":   {func() ([]byte, byte) { return replies{}.Local(req, rpc.WhyDenied, "denied") }, "denied", thrift.INTERNAL_ERROR},
		"abort":    {func() ([]byte, byte) { return replies{}.Abort(req, &snapshot.Abort{Message: "test"}, "fault") }, "test", thrift.INTERNAL_ERROR},
		"plain":    {func() ([]byte, byte) { return replies{}.Abort(req, &snapshot.Abort{}, "fault") }, "fault", thrift.INTERNAL_ERROR},
		"nobody":   {func() ([]byte, byte) { return replies{}.Unreached(req, "nobody") }, "nobody", thrift.INTERNAL_ERROR},
	} {
		frame, status := tt.reply()
		if h, err := (frames{}).ParseHeader(frame); err != nil || h.Status != status || h.ID != req.ID || h.Len() != len(frame) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
		b := thrift.NewTMemoryBuffer()
		_, _ = b.Write(frame)
		client := thrift.NewTStandardClient(thrift.NewTBinaryProtocolConf(thrift.NewTFramedTransportConf(b, nil), nil), nil)
		err := client.Recv(ctx, thrift.NewTBinaryProtocolConf(thrift.NewTFramedTransportConf(b, nil), nil), -9, "place", nil)
		var thrown thrift.TApplicationException
		if !errors.As(err, &thrown) || thrown.Error() != tt.text || thrown.TypeId() != tt.kind {
			t.Errorf("%s: the client reads %v", name, err)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	frame := written(t, "Orders:place", thrift.CALL, 1, everything)
	b := requests{}.NewBody()
	if n := testing.AllocsPerRun(100, func() {
		h, err := frames{}.ParseHeader(frame)
		p, state := requests{}.Prefix(h, frame[h.Head:])
		b.Reset(h, frame[h.Head:], p)
		text, _, _ := b.Argument(6)
		if err != nil || state != codec.Complete || text != "gold" {
			t.Fatal(err, state, text)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzMessage: nothing panics, a header says what the frame says, and our reader takes a
// string for an argument only where Thrift's own does.
func FuzzMessage(f *testing.F) {
	f.Add(written(f, "Orders:place", thrift.CALL, 1, everything))
	f.Add(written(f, "note", thrift.ONEWAY, 2, everything))
	refused, _ := replies{}.Local(codec.Asked{ID: 3, Method: "m"}, rpc.WhyDenied, "denied")
	f.Add(refused)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := frames{}.ParseHeader(b)
		if err != nil || h.Len() > len(b) {
			return
		}
		if uint64(binary.BigEndian.Uint32(b)) != uint64(h.Body) {
			t.Fatalf("a body of %d bytes", h.Body)
		}
		body := b[h.Head:h.Len()]
		_ = answers{}.Kind(h, body)
		p, state := requests{}.Prefix(h, body)
		if state == codec.More {
			t.Fatal("a header without a name")
		}
		var r Body
		r.Reset(h, body, p)
		ours, ok, err := r.Argument(0)
		theirs, has := firstString(b[:h.Len()])
		if err == nil && ok && has && ours != theirs {
			t.Fatalf("%q, and Thrift reads %q", ours, theirs)
		}
	})
}

// firstString is the last string of field 1 as Thrift's library reads the arguments.
func firstString(frame []byte) (text string, ok bool) {
	ctx := context.Background()
	b := thrift.NewTMemoryBuffer()
	_, _ = b.Write(frame)
	p := thrift.NewTBinaryProtocolConf(thrift.NewTFramedTransportConf(b, nil), nil)
	if _, _, _, err := p.ReadMessageBegin(ctx); err != nil {
		return "", false
	}
	for {
		_, kind, id, err := p.ReadFieldBegin(ctx)
		switch {
		case err != nil:
			return "", false
		case kind == thrift.STOP:
			return text, ok
		case kind == thrift.STRING && id == 1:
			if text, err = p.ReadString(ctx); err != nil {
				return "", false
			}
			ok = true
		default:
			if err = p.Skip(ctx, kind); err != nil {
				return "", false
			}
		}
	}
}
