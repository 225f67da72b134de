// Package codec is the seam between the proxy and the protocols whose calls it holds
// against policies: what a Protocol must know, each in a room of its own below
// (codec/dubbo, codec/thrift), and which of them a connection speaks by its first
// bytes. It reads nothing from a socket and knows no time: how long a silent connection
// may stay undecided is its caller's business.
package codec

import (
	"bytes"

	"github.com/dubway/dubway/l7proxy/rpc"
)

// SniffLen is the number of first bytes with which Sniff always decides.
const SniffLen = len(preface)

// preface is what an HTTP/2 client with prior knowledge says first (RFC 9113,
// 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// methods are HTTP/1's registered methods in use. An unknown method is opaque
// TCP: that loses HTTP's labels, where a wrong guess would lose the connection.
var methods = []string{
	"GET ", "POST ", "PUT ", "HEAD ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE ",
}

// Set is the protocols of which calls are read.
type Set []*Protocol

// Of finds a protocol; nil: its calls are not read.
func (s Set) Of(name rpc.Protocol) *Protocol {
	for _, p := range s {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Sniff tells the protocol by the first bytes that the client sent. A Dubbo
// 3.3 provider serves dubbo, Triple, HTTP and telnet on one port, so the port's
// declared protocol does not decide, these bytes do.
//
// With ok false more bytes are needed, and p is the one protocol that is known to
// begin so, or ProtocolUnknown where there are several. Sniff decides at the first
// byte that excludes all but one, so that a protocol it does not know (telnet's
// "ls", MySQL, Redis) is forwarded at once, and with SniffLen bytes it always
// decides. It keeps nothing and allocates nothing.
func (s Set) Sniff(b []byte) (p rpc.Protocol, ok bool) {
	if len(b) == 0 {
		return rpc.ProtocolUnknown, false
	}
	for _, p := range s {
		if is, sure := p.Frames.Begins(b); is {
			return p.Name, sure
		} else if !sure {
			return rpc.ProtocolUnknown, false
		}
	}
	if b[0] == 0x16 {
		return sniffTLS(b)
	}
	return sniffHTTP(b)
}

// sniffTLS wants a handshake record (22) of version 3.x whose first message is
// a ClientHello (1): RFC 8446, 4 and 5.1. The version's minor byte is no help,
// clients write 1 and 3.
func sniffTLS(b []byte) (rpc.Protocol, bool) {
	if len(b) > 1 && b[1] != 3 {
		return rpc.ProtocolTCP, true
	}
	if len(b) < 6 {
		return rpc.ProtocolTLS, false
	}
	if b[5] != 1 {
		return rpc.ProtocolTCP, true
	}
	return rpc.ProtocolTLS, true
}

func sniffHTTP(b []byte) (rpc.Protocol, bool) {
	more := false
	switch begins(b, preface) {
	case whole:
		return rpc.ProtocolHTTP2, true
	case part:
		more = true
	case not:
	}
	for _, m := range methods {
		switch begins(b, m) {
		case whole:
			return rpc.ProtocolHTTP1, true
		case part:
			more = true
		case not:
		}
	}
	if more {
		return rpc.ProtocolUnknown, false
	}
	return rpc.ProtocolTCP, true
}

// match tells how far b begins with a word.
type match uint8

const (
	not   match = iota
	part        // b ends inside the word
	whole       // b begins with the whole word
)

func begins(b []byte, word string) match {
	n := min(len(b), len(word))
	if !bytes.Equal(b[:n], []byte(word[:n])) {
		return not
	}
	if n < len(word) {
		return part
	}
	return whole
}
