package hostile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// maxFrame is the proxy's limit for a frame unless told otherwise.
const maxFrame = 16 << 20

// siege is what the hostile pod's process is asked to do: waves of connections,
// each wave as long as Hold, of the kinds in turn.
type siege struct {
	Targets []string // in turn
	Kinds   []string // nil: all
	Waves   int
	Conns   int // of a wave
	Hold    time.Duration
}

type siegeResult struct {
	Opened, Failed int64
	First          string // error of a connect
}

// attack is the hostile process: attack TAG JSON.
func attack(args []string) error {
	var s siege
	if err := json.Unmarshal([]byte(args[1]), &s); err != nil {
		return err
	}
	// Its own work must not look like the proxy's: the machine is one. A session may be a
	// scheduling group of its own, with a nice value of its own. At the least share of all an
	// attack does not take place on a machine that has other work.
	const nice = 5
	_ = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(nice)), 0)
	if err := unix.Setpriority(unix.PRIO_PGRP, 0, nice); err != nil {
		return err
	}
	if s.Kinds == nil {
		for name := range weapons {
			s.Kinds = append(s.Kinds, name)
		}
	}
	var r siegeResult
	var mu sync.Mutex
	var failed atomic.Int64
	for range s.Waves {
		end := time.Now().Add(s.Hold)
		var wave sync.WaitGroup
		for i := range s.Conns {
			weapon := weapons[s.Kinds[i%len(s.Kinds)]]
			if hungry[s.Kinds[0]] != nil {
				weapon = hungry[s.Kinds[i%len(s.Kinds)]]
			}
			target := s.Targets[(i/len(s.Kinds))%len(s.Targets)]
			wave.Go(func() {
				c, err := net.DialTimeout("tcp", target, time.Minute)
				if err != nil {
					failed.Add(1)
					mu.Lock()
					r.First = err.Error()
					mu.Unlock()
					return
				}
				until := end
				if late := time.Now().Add(s.Hold * 2 / 3); late.After(end) {
					until = late // what is late does its harm all the same
				}
				_ = c.SetDeadline(until)
				weapon(&enemy{Conn: c, target: target, until: until})
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			})
			if i%20 == 19 { // the connects of a wave take a third of its time
				time.Sleep(s.Hold / 3 * 20 / time.Duration(s.Conns))
			}
		}
		wave.Wait()
		r.Opened += int64(s.Conns)
	}
	r.Failed = failed.Load()
	return say(args[0], r)
}

// enemy is one hostile connection. Its deadline is the end of its time.
type enemy struct {
	net.Conn

	target string
	until  time.Time
}

// weapons are the ways to do harm, by name.
var weapons = map[string]func(*enemy){ //nolint:gochecknoglobals // a table
	"negative length":  func(e *enemy) { e.say(header(0xc2, -1)); e.stay() },
	"greatest length":  func(e *enemy) { e.say(header(0xc2, 1<<31-1)); e.drip(bytes.Repeat([]byte("x"), 4000)) },
	"over the limit":   func(e *enemy) { e.say(header(0xc2, maxFrame+1)); e.drip(bytes.Repeat([]byte("x"), 4000)) },
	"half a header":    func(e *enemy) { e.say(header(0xc2, 100)[:9]); e.stay() },
	"a byte a second":  func(e *enemy) { e.drip(call("echo", nil)) },
	"body that ends":   func(e *enemy) { e.say(call("echo", make([]byte, 200<<10))[:1500]); e.stay() },
	"endless body":     func(e *enemy) { e.endless() },
	"one id":           func(e *enemy) { e.collide() },
	"answers":          func(e *enemy) { e.say(bytes.Repeat(answer(), 2000)); e.stay() },
	"64k attachments":  func(e *enemy) { e.say(attachments(1 << 16)); e.stay() },
	"deep":             func(e *enemy) { e.say(deep(100_000)); e.stay() },
	"no magic":         func(e *enemy) { e.say(bytes.Repeat([]byte{0xda, 0xbc, 0, 0}, 100)); e.stay() },
	"magic, then none": func(e *enemy) { e.say(append(call("echo", nil), "rubbish that is no header"...)); e.stay() },
	"telnet":           func(e *enemy) { e.say([]byte("ls\r\nstatus -l\r\n")); e.stay() },
	"huge names":       func(e *enemy) { e.names() },
	"fastjson2":        func(e *enemy) { e.garbage(0xd7) },
	"hessian2":         func(e *enemy) { e.garbage(0xc2) },
	"deaf":             func(e *enemy) { e.deaf() },
	"storm":            func(e *enemy) { e.storm() },
	"silent":           func(e *enemy) { e.say(bytes.Repeat(call("silent", nil), 20)); e.stay() },
}

// hungry are the ways to keep others from having their requests read, by name: whole
// requests, one after the other, whose rules ask for what is far behind.
var hungry = map[string]func(*enemy){ //nolint:gochecknoglobals // a table
	"attachments":  func(e *enemy) { e.repeat(attachments(1 << 16)) },
	"many values":  func(e *enemy) { e.repeat(around("Ljava/util/List;", "W"+strings.Repeat("\x91", 200_000)+"Z", "")) },
	"many objects": func(e *enemy) { e.repeat(around("Ljava/util/List;", "W"+strings.Repeat("HZ", 100_000)+"Z", "")) },
}

// repeat asks again and again, and waits for each answer, whatever it is.
func (e *enemy) repeat(frame []byte) {
	in := bufio.NewReader(e)
	for e.say(frame) {
		head := make([]byte, 16)
		if _, err := io.ReadFull(in, head); err != nil {
			return
		}
		if _, err := in.Discard(int(binary.BigEndian.Uint32(head[12:]))); err != nil {
			return
		}
	}
}

// say writes; a peer that ends the connection has every right to.
func (e *enemy) say(b []byte) bool {
	_, err := e.Write(b)
	return err == nil
}

// stay reads and drops until the end.
func (e *enemy) stay() {
	b := make([]byte, 4096)
	for {
		if _, err := e.Read(b); err != nil {
			return
		}
	}
}

// drip writes a byte a second.
func (e *enemy) drip(b []byte) {
	for i := range b {
		if !e.say(b[i : i+1]) {
			return
		}
		time.Sleep(min(time.Second, max(0, time.Until(e.until))))
	}
}

// endless sends a part of a large frame fast and the rest never.
func (e *enemy) endless() {
	frame := call("echo", make([]byte, 400<<10))
	binary.BigEndian.PutUint32(frame[12:], 8<<20)
	e.say(frame)
	e.drip(make([]byte, 4000))
}

// collide has many calls of one id in flight, and goes on when as many answers as
// calls have come.
func (e *enemy) collide() {
	frame := call("delay200", nil)
	in := bufio.NewReader(e)
	for e.say(bytes.Repeat(frame, 64)) {
		for range 64 {
			head := make([]byte, 16)
			if _, err := io.ReadFull(in, head); err != nil {
				return
			}
			if _, err := in.Discard(int(binary.BigEndian.Uint32(head[12:]))); err != nil {
				return
			}
		}
		time.Sleep(min(time.Second, max(0, time.Until(e.until))))
	}
}

// names asks for interfaces that nobody has, each with a name of 7 KiB.
func (e *enemy) names() {
	for i := range 300 {
		iface := append(bytes.Repeat([]byte("n"), 7<<10), fmt.Sprint(i, e.LocalAddr())...)
		r := dubbotest.Request{Interface: string(iface)}
		if !e.say(r.Append(nil, uint64(i), nil)) {
			return
		}
		if i%32 == 31 {
			time.Sleep(50 * time.Millisecond)
		}
	}
	e.stay()
}

func (e *enemy) garbage(flags byte) {
	for range 20 {
		body := make([]byte, rand.IntN(4096))
		for i := range body {
			body[i] = byte(rand.Uint32())
		}
		if !e.say(append(header(flags, int32(len(body))), body...)) {
			return
		}
	}
	e.stay()
}

// deaf asks for megabytes and reads nothing.
func (e *enemy) deaf() {
	frame := call("echo", make([]byte, 60<<10))
	for range 200 {
		if !e.say(frame) {
			break
		}
	}
	time.Sleep(time.Until(e.until))
}

// storm connects, says a part, and resets, again and again.
func (e *enemy) storm() {
	for time.Now().Before(e.until) {
		c, err := net.DialTimeout("tcp", e.target, time.Second)
		if err != nil {
			return
		}
		_, _ = c.Write(call("delay50", nil)[:rand.IntN(60)])
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
		time.Sleep(50 * time.Millisecond)
	}
}

func header(flags byte, body int32) []byte {
	b := []byte{0xda, 0xbb, flags, 0, 0, 0, 0, 0, 0, 0, 0, 7}
	return binary.BigEndian.AppendUint32(b, uint32(body))
}

// call is a whole request of id 7.
func call(method string, data []byte) []byte {
	return dubbotest.Request{Method: method}.Append(nil, 7, data)
}

func answer() []byte {
	return append([]byte{0xda, 0xbb, 2, 20}, append(header(0, 2)[4:], 0x91, 'N')...)
}

// around is a request whose argument is arg.
func around(descriptor, arg, attachments string) []byte {
	body := "\x052.0.2\x06shop.S\x050.0.0\x04echo" + string(byte(len(descriptor))) + descriptor + arg + "H" + attachments + "Z"
	return append(header(0xc2, int32(len(body))), body...)
}

func attachments(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "\x06k%05d\x01v", i)
	}
	return around("I", "\x90", b.String())
}

// deep is lists in lists.
func deep(levels int) []byte {
	return around("Ljava/util/List;", string(bytes.Repeat([]byte("\x79"), levels))+"N", "")
}
