package thrifttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
)

// Client is one connection, for one goroutine.
type Client struct {
	conn   net.Conn
	client *thrift.TStandardClient
}

// Answer is how a call ended.
type Answer struct {
	Value   string
	Thrown  string // the declared exception's message
	Refused string // that of a TApplicationException
	Kind    int32  // its type
}

// Dial connects. Service "" calls methods by their names alone.
func Dial(address, service string) (*Client, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	framed := thrift.NewTFramedTransportConf(thrift.NewTSocketFromConnConf(conn, nil), nil)
	in := thrift.NewTBinaryProtocolConf(framed, nil)
	out := thrift.TProtocol(in)
	if service != "" {
		out = thrift.NewTMultiplexedProtocol(in, service)
	}
	return &Client{conn: conn, client: thrift.NewTStandardClient(in, out)}, nil
}

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Call calls a method and waits for its answer, for 20 s at most.
func (c *Client) Call(method, text string, n int32) (a Answer, err error) {
	_ = c.conn.SetDeadline(time.Now().Add(20 * time.Second))
	var r result
	_, err = c.client.Call(context.Background(), method, &arguments{text, n}, &r)
	if refused := thrift.TApplicationException(nil); errors.As(err, &refused) {
		return Answer{Refused: refused.Error(), Kind: refused.TypeId()}, nil
	}
	if err != nil {
		return a, fmt.Errorf("call %s: %w", method, err)
	}
	if r.thrown != nil {
		return Answer{Thrown: r.thrown.message}, nil
	}
	return Answer{Value: r.value}, nil
}

// Note calls the oneway method.
func (c *Client) Note(text string) error {
	_ = c.conn.SetDeadline(time.Now().Add(20 * time.Second))
	out := thrift.NewTBinaryProtocolConf(thrift.NewTFramedTransportConf(thrift.NewTSocketFromConnConf(c.conn, nil), nil), nil)
	m := message{"note", thrift.ONEWAY, 0, &arguments{text, 0}}
	if err := (*methods)(nil).say(context.Background(), out, m); err != nil {
		return fmt.Errorf("note: %w", err)
	}
	return nil
}
