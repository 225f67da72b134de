package thrifttest

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
)

// Service is the name under which a Provider serves, beside the default one.
const Service = "Orders"

// Provider serves any method. What its name is says how:
//
//	delay   its name and the text, after n milliseconds
//	hold    its name and the text, when Held is closed
//	throw   the declared exception
//	fail    a TApplicationException
//	note    not at all: it is oneway, and counted
//	notes   how many notes there were, and calls
//	else    its name and the text: "v1 hello"
type Provider struct {
	Name string
	Held chan struct{}

	notes, calls atomic.Int64
}

// Serve serves until the process ends.
func (p *Provider) Serve(address string) error {
	socket, err := thrift.NewTServerSocket(address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return p.on(socket)
}

// ServeOn is Serve on a listener, until that is closed.
func (p *Provider) ServeOn(l net.Listener) error { return p.on(&listening{Listener: l}) }

func (p *Provider) on(socket thrift.TServerTransport) error {
	all := thrift.NewTMultiplexedProcessor()
	all.RegisterProcessor(Service, (*methods)(p))
	all.RegisterDefault((*methods)(p))
	framed := thrift.NewTFramedTransportFactoryConf(thrift.NewTTransportFactory(), nil)
	return thrift.NewTSimpleServer4(all, socket, framed, thrift.NewTBinaryProtocolFactoryConf(nil)).Serve()
}

// listening is a listener as Thrift's server wants it.
type listening struct{ net.Listener }

// Listen is part of thrift.TServerTransport.
func (*listening) Listen() error { return nil }

// Accept is part of thrift.TServerTransport.
func (l *listening) Accept() (thrift.TTransport, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, thrift.NewTTransportExceptionFromError(err)
	}
	return thrift.NewTSocketFromConnConf(c, nil), nil
}

// Interrupt is part of thrift.TServerTransport.
func (l *listening) Interrupt() error { return l.Close() }

// methods is a Provider as what calls.
type methods Provider

var _ thrift.TProcessor = (*methods)(nil)

// ProcessorMap is part of thrift.TProcessor.
func (*methods) ProcessorMap() map[string]thrift.TProcessorFunction { return nil }

// AddToProcessorMap is part of thrift.TProcessor.
func (*methods) AddToProcessorMap(string, thrift.TProcessorFunction) {}

// Process is part of thrift.TProcessor.
func (p *methods) Process(ctx context.Context, in, out thrift.TProtocol) (bool, thrift.TException) {
	name, kind, id, err := in.ReadMessageBegin(ctx)
	if err != nil {
		return false, thrift.WrapTException(err)
	}
	var a arguments
	if err := a.Read(ctx, in); err != nil {
		return false, thrift.WrapTException(err)
	}
	if err := in.ReadMessageEnd(ctx); err != nil {
		return false, thrift.WrapTException(err)
	}
	if kind == thrift.ONEWAY {
		p.notes.Add(1)
		return true, nil
	}
	p.calls.Add(1)
	answer := &result{value: p.Name + " " + a.text}
	switch name {
	case "delay":
		time.Sleep(time.Duration(a.n) * time.Millisecond)
	case "hold":
		<-p.Held
	case "throw":
		answer = &result{thrown: &failure{"no " + a.text}}
	case "notes":
		answer.value = fmt.Sprintf("%d notes, %d calls", p.notes.Load(), p.calls.Load())
	case "fail":
		return true, p.say(ctx, out, message{name, thrift.EXCEPTION, id, thrift.NewTApplicationException(thrift.INTERNAL_ERROR, "out of order")})
	}
	return true, p.say(ctx, out, message{name, thrift.REPLY, id, answer})
}

// message is what is said.
type message struct {
	name string
	kind thrift.TMessageType
	id   int32
	body interface {
		Write(ctx context.Context, p thrift.TProtocol) error
	}
}

func (*methods) say(ctx context.Context, out thrift.TProtocol, m message) thrift.TException {
	err := out.WriteMessageBegin(ctx, m.name, m.kind, m.id)
	if err == nil {
		err = m.body.Write(ctx, out)
	}
	if err == nil {
		err = out.WriteMessageEnd(ctx)
	}
	if err == nil {
		err = out.Flush(ctx)
	}
	if err != nil {
		return thrift.WrapTException(err)
	}
	return nil
}
