package dubbotest

import (
	"encoding/binary"
)

// Request says what to call. Its zero value calls DefaultInterface.echo.
type Request struct {
	Interface   string
	Method      string
	Version     string
	Dubbo       string // the version of the protocol; "" for 2.0.2
	Attachments map[string]string
	Text        string // a second argument, behind the data; "" for none
	Generic     bool   // call $invoke, which names Method
	OneWay      bool
}

// Append appends the frame of a call with the argument data.
func (r Request) Append(b []byte, id uint64, data []byte) []byte {
	if r.Interface == "" {
		r.Interface = DefaultInterface
	}
	if r.Method == "" {
		r.Method = "echo"
	}
	if r.Version == "" {
		r.Version = "0.0.0"
	}
	if r.Dubbo == "" {
		r.Dubbo = "2.0.2"
	}
	flags := byte(flagRequest | flagTwoWay)
	if r.OneWay {
		flags = flagRequest
	}
	start := len(b)
	b = appendHeader(b, flags, 0, id)
	for _, s := range []string{r.Dubbo, r.Interface, r.Version} {
		b = appendString(b, s)
	}
	b = append(r.appendArguments(b, data), 'H')
	for _, pair := range [][2]string{{"path", r.Interface}, {"interface", r.Interface}, {"version", r.Version}} {
		b = appendString(appendString(b, pair[0]), pair[1])
	}
	for key, value := range r.Attachments {
		b = appendString(appendString(b, key), value)
	}
	return seal(append(b, 'Z'), start)
}

// appendArguments appends the method, the types and the arguments.
func (r Request) appendArguments(b, data []byte) []byte {
	types, count := "[B", byte(1)
	if r.Text != "" {
		types, count = "[BLjava/lang/String;", 2
	}
	if r.Generic {
		types = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"
		b = appendString(appendString(b, "$invoke"), types)
		b = append(appendString(b, r.Method), 'N', listOf+count) // without names of types
	} else {
		b = appendString(appendString(b, r.Method), types)
	}
	if b = appendBytes(b, data); r.Text != "" {
		b = appendString(b, r.Text)
	}
	return b
}

// listOf less than 8 values is this byte, less their number.
const listOf = 0x78

// appendHeartbeat appends a heartbeat, or the answer to one.
func appendHeartbeat(b []byte, id uint64, answer bool) []byte {
	start := len(b)
	if answer {
		b = appendHeader(b, flagEvent, StatusOK, id)
	} else {
		b = appendHeader(b, flagRequest|flagTwoWay|flagEvent, 0, id)
	}
	return seal(append(b, 'N'), start)
}

// SetID overwrites the id of a frame.
func SetID(frame []byte, id uint64) { binary.BigEndian.PutUint64(frame[4:], id) }
