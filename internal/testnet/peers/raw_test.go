package peers

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// The ports of the raw server.
const (
	mutePort = 21000 // answers nothing but heartbeats
	whyPort  = 21001 // and those after it: answers as the mesh would, one port for each reason
)

// raw is the raw server's process: raw [tell]. It answers in the bytes that the mesh
// would use, and prints a line for each request if it is to tell.
func raw(args []string) error {
	failed := make(chan error)
	for i := range rpc.Whys + 1 {
		ln, err := net.Listen("tcp", fmt.Sprintf("[::]:%d", mutePort+i))
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					failed <- err
					return
				}
				told := io.Discard
				if len(args) > 0 {
					told = os.Stdout
				}
				go func() { _ = answer(c, i-1, told) }()
			}
		}()
	}
	fmt.Fprintln(os.Stdout, "READY")
	return <-failed
}

// answer serves one connection of a raw server's port; why < 0 is the mute one.
func answer(c net.Conn, why int, told io.Writer) error {
	defer func() { _ = c.Close() }()
	in := bufio.NewReaderSize(c, 1<<16)
	head := make([]byte, dubbo.HeaderLen)
	for {
		if _, err := io.ReadFull(in, head); err != nil {
			return err
		}
		h, err := dubbo.ParseHeader(head)
		if err != nil {
			return err
		}
		if _, err := in.Discard(h.Body); err != nil {
			return err
		}
		var frame []byte
		if !h.Event() {
			fmt.Fprintf(told, "try %d\n", why)
		}
		switch {
		case h.Event():
			frame = dubbo.AppendHeartbeatReply(nil, h)
		case why >= 0:
			frame, _ = dubbo.AppendLocal(nil, h, rpc.Why(why), "dubway: "+rpc.Why(why).String())
		}
		if _, err := c.Write(frame); err != nil {
			return err
		}
	}
}

// flood is the process of somebody who asks for more than one connection holds:
// flood TARGET N. It prints READY when it has asked, and waits.
func flood(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	var frames []byte
	for i := range n {
		frames = dubbotest.Request{}.Append(frames, uint64(i), nil)
	}
	if _, err := c.Write(frames); err != nil {
		return err
	}
	// The answer to the one that was too many says that the others are in flight.
	if _, err := io.ReadFull(c, make([]byte, dubbo.HeaderLen)); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "READY")
	_, err = io.Copy(io.Discard, c)
	return err
}

// sendBytes is the process of a consumer that says hexadecimal bytes and prints
// the answer's: bytes TARGET HEX.
func sendBytes(args []string) error {
	b, err := hex.DecodeString(args[1])
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	if _, err := c.Write(b); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	head := make([]byte, dubbo.HeaderLen)
	if _, err := io.ReadFull(c, head); err != nil {
		return err
	}
	h, err := dubbo.ParseHeader(head)
	if err != nil {
		return err
	}
	body := make([]byte, h.Body)
	if _, err := io.ReadFull(c, body); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "status %d serialization %d %q\n", h.Status, h.Serialization(), body)
	return nil
}
