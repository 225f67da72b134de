// Package thrifttest has real peers of Apache Thrift, its own Go library: a server and a
// client of the service that this IDL describes, in framed transport and the binary
// protocol. What a compiler would make of it is written by hand.
//
//	exception Failure { 1: string message }
//	service Orders {
//	  string place(1: string text, 2: i32 n) throws (1: Failure failure)
//	  oneway void note(1: string text, 2: i32 n)
//	}
//
// Every method but note answers like place; its name says how (Provider).
package thrifttest

import (
	"context"
	"errors"

	"github.com/apache/thrift/lib/go/thrift"
)

// arguments are those of every method.
type arguments struct {
	text string
	n    int32
}

var _ thrift.TStruct = (*arguments)(nil)

// Write is part of thrift.TStruct.
func (a *arguments) Write(ctx context.Context, p thrift.TProtocol) error {
	return errors.Join(
		p.WriteStructBegin(ctx, "arguments"),
		p.WriteFieldBegin(ctx, "text", thrift.STRING, 1), p.WriteString(ctx, a.text), p.WriteFieldEnd(ctx),
		p.WriteFieldBegin(ctx, "n", thrift.I32, 2), p.WriteI32(ctx, a.n), p.WriteFieldEnd(ctx),
		p.WriteFieldStop(ctx), p.WriteStructEnd(ctx),
	)
}

// Read is part of thrift.TStruct.
func (a *arguments) Read(ctx context.Context, p thrift.TProtocol) error {
	return fields(ctx, p, func(id int16) (err error) {
		switch id {
		case 1:
			a.text, err = p.ReadString(ctx)
		case 2:
			a.n, err = p.ReadI32(ctx)
		default:
			err = errors.New("an argument that the service does not have")
		}
		return err
	})
}

// result is a string or the declared exception.
type result struct {
	value  string
	thrown *failure
}

var _ thrift.TStruct = (*result)(nil)

// Write is part of thrift.TStruct.
func (r *result) Write(ctx context.Context, p thrift.TProtocol) error {
	if err := p.WriteStructBegin(ctx, "result"); err != nil {
		return err
	}
	var err error
	if r.thrown != nil {
		err = errors.Join(p.WriteFieldBegin(ctx, "failure", thrift.STRUCT, 1), r.thrown.Write(ctx, p), p.WriteFieldEnd(ctx))
	} else {
		err = errors.Join(p.WriteFieldBegin(ctx, "success", thrift.STRING, 0), p.WriteString(ctx, r.value), p.WriteFieldEnd(ctx))
	}
	return errors.Join(err, p.WriteFieldStop(ctx), p.WriteStructEnd(ctx))
}

// Read is part of thrift.TStruct.
func (r *result) Read(ctx context.Context, p thrift.TProtocol) error {
	return fields(ctx, p, func(id int16) (err error) {
		if id == 0 {
			r.value, err = p.ReadString(ctx)
			return err
		}
		r.thrown = &failure{}
		return r.thrown.Read(ctx, p)
	})
}

// failure is the declared exception.
type failure struct{ message string }

// Write is part of thrift.TStruct.
func (f *failure) Write(ctx context.Context, p thrift.TProtocol) error {
	return errors.Join(
		p.WriteStructBegin(ctx, "Failure"),
		p.WriteFieldBegin(ctx, "message", thrift.STRING, 1), p.WriteString(ctx, f.message), p.WriteFieldEnd(ctx),
		p.WriteFieldStop(ctx), p.WriteStructEnd(ctx),
	)
}

// Read is part of thrift.TStruct.
func (f *failure) Read(ctx context.Context, p thrift.TProtocol) error {
	return fields(ctx, p, func(int16) (err error) {
		f.message, err = p.ReadString(ctx)
		return err
	})
}

// fields reads a struct, each of its fields by read.
func fields(ctx context.Context, p thrift.TProtocol, read func(id int16) error) error {
	if _, err := p.ReadStructBegin(ctx); err != nil {
		return err
	}
	for {
		_, kind, id, err := p.ReadFieldBegin(ctx)
		if err != nil {
			return err
		}
		if kind == thrift.STOP {
			return p.ReadStructEnd(ctx)
		}
		if err := errors.Join(read(id), p.ReadFieldEnd(ctx)); err != nil {
			return err
		}
	}
}
