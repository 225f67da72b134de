package scenario

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// The types of ZooKeeper's requests (its jute protocol: every message behind its
// length, numbers big endian).
const (
	zkCreate  = 1
	zkGetData = 4
	zkPing    = 11
)

// zkServer answers sessions as ZooKeeper 3.8 does, as far as session asks: zookeeper
// ADDRESS.
func zkServer(args []string) error {
	ln, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = c.Close() }()
			_ = zkServe(c)
		}()
	}
}

func zkServe(c net.Conn) error {
	ask, err := zkRead(c)
	if err != nil || len(ask) < 16 {
		return err
	}
	// Version, timeout, session, password, read only.
	said := append(append(make([]byte, 4), ask[12:16]...), 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 16)
	if err := zkWrite(c, append(said, make([]byte, 17)...)); err != nil {
		return err
	}
	var data []byte
	for {
		ask, err := zkRead(c)
		if err != nil || len(ask) < 8 {
			return err
		}
		answer := append(append([]byte{}, ask[:4]...), make([]byte, 12)...) // id, transaction, no error
		switch binary.BigEndian.Uint32(ask[4:]) {
		case zkCreate:
			path := zkField(ask[8:])
			data = zkField(ask[12+len(path):])
			answer = append(binary.BigEndian.AppendUint32(answer, uint32(len(path))), path...)
		case zkGetData:
			answer = append(binary.BigEndian.AppendUint32(answer, uint32(len(data))), data...)
			answer = append(answer, make([]byte, 68)...)
		}
		if err := zkWrite(c, answer); err != nil {
			return err
		}
	}
}

// zkField returns the field behind its length.
func zkField(b []byte) []byte { return b[4 : 4+binary.BigEndian.Uint32(b)] }

func zkRead(c io.Reader) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(n[:]))
	_, err := io.ReadFull(c, b)
	return b, err
}

func zkWrite(c io.Writer, b []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

var errZK = errors.New("ZooKeeper's answer is another one")

// zkSession is a client's session: it connects, pings, writes half a megabyte and
// reads it back.
func zkSession(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	hello := make([]byte, 45)
	binary.BigEndian.PutUint32(hello[12:], 30_000) // behind version and transaction
	binary.BigEndian.PutUint32(hello[24:], 16)     // the password, behind the session
	said, err := zkAsk(c, hello)
	if err != nil || len(said) != 37 || binary.BigEndian.Uint64(said[8:]) == 0 {
		return fmt.Errorf("connect: % x: %w", said, errors.Join(errZK, err))
	}
	ping := []byte{0xff, 0xff, 0xff, 0xfe, 0, 0, 0, zkPing}
	if said, err = zkAsk(c, ping); err != nil || len(said) != 16 || !bytes.Equal(said[:4], ping[:4]) {
		return fmt.Errorf("ping: % x: %w", said, errors.Join(errZK, err))
	}
	data := make([]byte, 512<<10)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	text := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	path := fmt.Sprintf("/through-the-mesh-%d", rand.Uint64())
	create := text(text([]byte{0, 0, 0, 1, 0, 0, 0, zkCreate}, path), string(data))
	create = text(text(append(create, 0, 0, 0, 1, 0, 0, 0, 31), "world"), "anyone")
	if said, err = zkAsk(c, append(create, 0, 0, 0, 0)); err != nil || !bytes.HasSuffix(said, []byte(path)) {
		return fmt.Errorf("create: % x: %w", said, errors.Join(errZK, err))
	}
	said, err = zkAsk(c, append(text([]byte{0, 0, 0, 2, 0, 0, 0, zkGetData}, path), 0))
	if err != nil || len(said) < 20 || !bytes.Equal(zkField(said[16:]), data) {
		return fmt.Errorf("get: %d bytes: %w", len(said), errors.Join(errZK, err))
	}
	return nil
}

func zkAsk(c net.Conn, b []byte) ([]byte, error) {
	if err := zkWrite(c, b); err != nil {
		return nil, err
	}
	return zkRead(c)
}

// zkClient is the client's process: session TAG ADDRESS.
func zkClient(args []string) error {
	c, err := net.Dial("tcp", strings.Trim(args[1], `"`))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := zkSession(c); err != nil {
		return err
	}
	_, err = fmt.Fprintf(os.Stdout, "%s%q\n", args[0], "served")
	return err
}

// registryListener is an entry for an address of the registry, at a port or at all.
const registryListener = `resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: registry
  address: {socket_address: {address: "%s", port_value: %d}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: service
        route_config: {name: none, virtual_hosts: []}
`

// TestRegistry: a session with the registry is not steered by an entry for every
// port; and steered by mistake, by an entry for its very port that says Dubbo, it
// passes byte for byte like any other protocol.
func TestRegistry(t *testing.T) {
	m := newMesh(t)
	consumer, registry := m.pod("consumer"), m.pod("registry")
	_, err := registry.StartHelper("zookeeper", "[::]:2181")
	m.must(err)
	var published uint64
	for i, port := range []int{0, 2181} {
		m.must(m.PutXDS("registry.yaml", fmt.Appendf(nil, registryListener, registry.Addresses[0], port)))
		if i == 0 {
			m.start(consumer, registry)
		}
		m.eventually("the configuration", func() bool {
			s, err := m.AgentStatus(m.ctx)
			changed := err == nil && s.Generation != published
			if changed {
				published = s.Generation
			}
			return changed
		})
		var said string
		m.launch(consumer, "session", registry.Addr(2181).String())(&said)
		if said != "served" {
			t.Errorf("port %d: %q", port, said)
		}
		m.counted("dubway_connections_accepted_total", i)
	}
	m.counted("istio_tcp_connections_opened_total{", 1, `source_workload="consumer"`)
}
