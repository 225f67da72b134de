package dubbotest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// readBuffer is how much a peer reads at a time.
const readBuffer = 256 << 10

// Provider answers calls of any interface. What the method's name begins with
// says how:
//
//	delayN    echo after N milliseconds
//	silent    never
//	throw     with a java.lang.RuntimeException
//	error     with status 70; errorNAME by the provider of that name alone
//	flakyN    with status 70 to N calls, echo to the next, and again
//	bare      echo, without attachments
//	attached  with the request's attachments as JSON
//	close     by closing the connection
//	readonly  echo, and send the READONLY event before it
//	subscribe echo, and call the connection back at each notify
//	notifyN   echo, and call every subscriber back N times with the argument
//	stats     with Stats as JSON
//	local     with the address that its connection has here
//	else      echo
type Provider struct {
	Name string
	// Exports tells whether it knows an interface; nil: every one. Calls of others
	// are answered as Java 3 does.
	Exports func(iface string) bool

	connections, calls, oneWays, heartbeats, callbacks, callbacksFailed atomic.Int64

	mu          sync.Mutex
	methods     map[string]int64
	peers       map[string]int64
	subscribers []*served
}

// Stats is what a Provider has seen since it began.
type Stats struct {
	Name        string `json:"name"`
	Connections int64  `json:"connections"`
	Calls       int64  `json:"calls"` // two-way
	OneWays     int64  `json:"oneWays"`
	Heartbeats  int64  `json:"heartbeats"`
	// Callbacks were answered with their own argument, CallbacksFailed otherwise
	// or not at all.
	Callbacks       int64            `json:"callbacks"`
	CallbacksFailed int64            `json:"callbacksFailed"`
	Methods         map[string]int64 `json:"methods"` // other than echo, by name
	Peers           map[string]int64 `json:"peers"`   // connections by the consumer's IP address
}

// Serve accepts connections until the listener is closed.
func (p *Provider) Serve(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		p.connections.Add(1)
		p.count(&p.peers, conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().String())
		go func() {
			defer conn.Close()
			s := &served{provider: p, conn: conn}
			s.tail = s.attachments()
			defer p.ended(s)
			_ = s.loop() // a consumer may go as it likes
		}()
	}
}

// Stats returns a copy of what was counted.
func (p *Provider) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	stats := Stats{
		Name: p.Name, Connections: p.connections.Load(), Calls: p.calls.Load(),
		OneWays: p.oneWays.Load(), Heartbeats: p.heartbeats.Load(),
		Callbacks: p.callbacks.Load(), CallbacksFailed: p.callbacksFailed.Load(),
		Methods: map[string]int64{}, Peers: map[string]int64{},
	}
	maps.Copy(stats.Methods, p.methods)
	maps.Copy(stats.Peers, p.peers)
	return stats
}

func (p *Provider) count(in *map[string]int64, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if *in == nil {
		*in = map[string]int64{}
	}
	(*in)[name]++
}

// served is one connection of a provider.
type served struct {
	provider *Provider
	conn     net.Conn
	tail     []byte // the attachments of every answer

	mu      sync.Mutex // of writes: delayed answers come from elsewhere
	out     []byte
	next    uint64            // id of a callback
	waiting map[uint64][]byte // arguments of callbacks, by id
}

func (s *served) attachments() []byte {
	b := []byte{'H'}
	for _, pair := range [][2]string{{"dubbo", "2.0.2"}, {"provider", s.provider.Name}, {"peer", s.conn.RemoteAddr().String()}} {
		b = appendString(appendString(b, pair[0]), pair[1])
	}
	return append(b, 'Z')
}

// loop answers all frames of one read with one write.
func (s *served) loop() error {
	buffer, have := make([]byte, readBuffer), 0
	for {
		n, err := s.conn.Read(buffer[have:])
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		have += n
		rest, need, err := s.frames(buffer[:have])
		if err != nil {
			return err
		}
		if need > len(buffer) {
			bigger := make([]byte, need)
			copy(bigger, rest)
			buffer = bigger
		} else {
			copy(buffer, rest)
		}
		have = len(rest)
		if err := s.flush(); err != nil {
			return err
		}
	}
}

// frames answers the whole frames in b and returns the partial one behind them,
// with its length as far as it is known.
func (s *served) frames(b []byte) (rest []byte, need int, err error) {
	for len(b) >= headerLen {
		h, err := parseHeader(b)
		if err != nil {
			return nil, 0, err
		}
		if len(b) < headerLen+h.body {
			return b, headerLen + h.body, nil
		}
		if err := s.frame(h, b[headerLen:headerLen+h.body]); err != nil {
			return nil, 0, err
		}
		b = b[headerLen+h.body:]
	}
	return b, headerLen, nil
}

func (s *served) frame(h header, body []byte) error {
	if h.event() {
		if h.request() && h.twoWay() {
			s.provider.heartbeats.Add(1)
			s.answer(func(b []byte) []byte { return appendHeartbeat(b, h.id, true) })
		}
		return nil
	}
	if !h.request() {
		return s.answered(h, body)
	}
	ask, err := parseRequest(body)
	if err != nil {
		return err
	}
	if s.provider.Exports != nil && !s.provider.Exports(string(ask.iface)) {
		s.provider.count(&s.provider.methods, "unknown:"+string(ask.iface))
		if h.twoWay() {
			s.answer(func(b []byte) []byte { return unknown(b, h.id, string(ask.method)) })
		}
		return nil
	}
	if string(ask.method) != "echo" {
		s.provider.count(&s.provider.methods, string(ask.method))
	}
	if !h.twoWay() {
		s.provider.oneWays.Add(1)
		return nil
	}
	s.provider.calls.Add(1)
	if string(ask.method) == "echo" {
		s.mu.Lock()
		s.out = s.echo(s.out, h.id, ask.argument)
		s.mu.Unlock()
		return nil
	}
	if strings.HasPrefix(string(ask.method), "attached") {
		return s.attached(h.id, ask.rest)
	}
	return s.special(string(ask.method), h.id, ask.argument)
}

// answer appends to what the next flush writes.
func (s *served) answer(add func([]byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = add(s.out)
}

// special answers what is no echo.
func (s *served) special(method string, id uint64, argument []byte) error {
	switch {
	case strings.HasPrefix(method, "delay"):
		milliseconds, _ := strconv.Atoi(strings.TrimPrefix(method, "delay"))
		echo := s.echo(nil, id, argument)
		time.AfterFunc(time.Duration(milliseconds)*time.Millisecond, func() {
			s.answer(func(b []byte) []byte { return append(b, echo...) })
			_ = s.flush() // the loop sees a broken connection too
		})
	case strings.HasPrefix(method, "silent"):
	case strings.HasPrefix(method, "throw"):
		s.answer(func(b []byte) []byte { return s.exception(b, id) })
	case method == "error", method == "error"+s.provider.Name, s.provider.failsNow(method):
		s.answer(func(b []byte) []byte {
			start := len(b)
			return seal(appendString(appendHeader(b, 0, 70, id), "as you asked"), start)
		})
	case strings.HasPrefix(method, "bare"):
		s.answer(func(b []byte) []byte {
			start := len(b)
			return seal(append(append(appendHeader(b, 0, StatusOK, id), 0x91), argument...), start)
		})
	case strings.HasPrefix(method, "close"):
		return io.EOF
	case strings.HasPrefix(method, "readonly"):
		s.answer(func(b []byte) []byte {
			start := len(b)
			b = seal(appendString(appendHeader(b, flagRequest|flagEvent, 0, 0), "R"), start)
			return s.echo(b, id, argument)
		})
	case strings.HasPrefix(method, "subscribe"):
		s.answer(func(b []byte) []byte { return s.echo(b, id, argument) })
		s.provider.subscribe(s)
	case strings.HasPrefix(method, "notify"):
		s.answer(func(b []byte) []byte { return s.echo(b, id, argument) })
		s.provider.notify(strings.TrimPrefix(method, "notify"), argument)
	case strings.HasPrefix(method, "stats"):
		document, err := json.Marshal(s.provider.Stats())
		if err != nil {
			return fmt.Errorf("write stats: %w", err)
		}
		s.answer(func(b []byte) []byte { return s.echo(b, id, appendBytes(nil, document)) })
	case strings.HasPrefix(method, "local"):
		local := appendBytes(nil, []byte(s.conn.LocalAddr().String()))
		s.answer(func(b []byte) []byte { return s.echo(b, id, local) })
	default:
		s.answer(func(b []byte) []byte { return s.echo(b, id, argument) })
	}
	return nil
}

func (s *served) echo(b []byte, id uint64, argument []byte) []byte {
	start := len(b)
	b = append(appendHeader(b, 0, StatusOK, id), 0x94)
	b = append(b, argument...)
	return seal(append(b, s.tail...), start)
}

// unknown answers a call of an interface that is not exported as Dubbo Java 3.3.6
// does.
func unknown(b []byte, id uint64, method string) []byte {
	const status = 40 // BAD_REQUEST
	start := len(b)
	text := "Fail to decode request due to: RpcInvocation [methodName=" + method + ", parameterTypes=null]"
	return seal(appendString(appendHeader(b, 0, status, id), text), start)
}

func (s *served) exception(b []byte, id uint64) []byte {
	start := len(b)
	b = append(appendHeader(b, 0, StatusOK, id), 0x93, 'C')
	b = appendString(b, "java.lang.RuntimeException")
	b = appendString(append(b, 0x91), "detailMessage")
	b = appendString(append(b, 0x60), "as you asked")
	return seal(append(b, s.tail...), start)
}

func (s *served) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.out) == 0 {
		return nil
	}
	_, err := s.conn.Write(s.out)
	s.out = s.out[:0]
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
