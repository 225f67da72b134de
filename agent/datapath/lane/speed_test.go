package lane_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/internal/lane"
)

// BenchmarkAgainstDirect compares calls by the lane with such by TCP over a veth, in turns:
// the medians of the rounds' ratios of throughput, and of the processor's time for a call.
func BenchmarkAgainstDirect(b *testing.B) {
	for _, size := range []int{128, 1024} {
		for _, shape := range []struct{ conns, depth int }{{1, 1}, {16, 1}, {1, 16}} {
			b.Run(fmt.Sprintf("%dB/%dx%d", size, shape.conns, shape.depth), func(b *testing.B) {
				r := lanetest.New(b, 32)
				direct, laned := directPairs(b, r, shape.conns), lanedPairs(b, r, shape.conns)
				var rate, cpu, base []float64
				for b.Loop() {
					n, spent := measure(b, direct, size, shape.depth)
					m, also := measure(b, laned, size, shape.depth)
					rate, cpu, base = append(rate, m/n), append(cpu, also/spent), append(base, n)
				}
				slices.Sort(rate)
				slices.Sort(cpu)
				slices.Sort(base)
				b.ReportMetric(rate[len(rate)/2], "x-rate")
				b.ReportMetric(rate[0], "min-rate")
				b.ReportMetric(rate[len(rate)-1], "max-rate")
				b.ReportMetric(cpu[len(cpu)/2], "x-cpu")
				b.ReportMetric(base[len(base)/2], "direct/s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// directPairs are connections over a veth: consumers' and providers' sockets.
func directPairs(b *testing.B, r *lanetest.Rig, n int) (pairs []lanetest.Pair) {
	b.Helper()
	r.Consumer.Do(func() {
		veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "eth0", PeerNamespace: netlink.NsFd(r.Provider.Namespace().Fd())}
		veth.Name = "eth0"
		lanetest.Must(b, netlink.LinkAdd(veth))
	})
	for i, pod := range []*lanetest.Pod{r.Consumer, r.Provider} {
		pod.Do(func() {
			eth, err := netlink.LinkByName("eth0")
			lanetest.Must(b, err)
			addr, err := netlink.ParseAddr(fmt.Sprintf("10.77.0.%d/24", i+1))
			lanetest.Must(b, err)
			lanetest.Must(b, netlink.AddrAdd(eth, addr))
			lanetest.Must(b, netlink.LinkSetUp(eth))
		})
	}
	var l net.Listener
	r.Provider.Do(func() {
		config := net.ListenConfig{}
		config.SetMultipathTCP(false)
		var err error
		l, err = config.Listen(context.Background(), "tcp4", "10.77.0.2:20880")
		lanetest.Must(b, err)
	})
	defer l.Close()
	for range n {
		r.Consumer.Do(func() {
			c, err := net.DialTimeout("tcp4", "10.77.0.2:20880", 30*time.Second)
			lanetest.Must(b, err)
			a, err := l.Accept()
			lanetest.Must(b, err)
			consumer, _ := c.(*net.TCPConn)
			provider, _ := a.(*net.TCPConn)
			b.Cleanup(func() { c.Close(); a.Close() })
			pairs = append(pairs, lanetest.Pair{App: consumer, Proxy: provider})
		})
	}
	serveAll(pairs)
	return pairs
}

// lanedPairs are consumers' sockets, each with a lane of its own to a provider's.
func lanedPairs(b *testing.B, r *lanetest.Rig, n int) (pairs []lanetest.Pair) {
	b.Helper()
	for i := range n {
		c, p := r.DialConsumer(lanetest.Families[0]), r.DialProvider(lanetest.Families[0])
		proxy := r.NewProxy(uint32(i), c, []lanetest.Pair{p}, r.DialPlain(lanetest.Families[0]))
		proxy.Class(1, lane.RoundRobin, "echo")
		lanetest.Must(b, proxy.Open(0))
		pairs = append(pairs, lanetest.Pair{App: c.App, Proxy: p.App})
	}
	serveAll(pairs)
	return pairs
}

// serveAll answers by each pair's Proxy what comes: all that was read by one write.
func serveAll(pairs []lanetest.Pair) {
	for _, p := range pairs {
		go func() {
			rd := lanetest.NewReader(p.Proxy)
			var out []byte
			for rd.More() == nil {
				out = out[:0]
				for raw, _ := rd.Next(); raw != nil; raw, _ = rd.Next() {
					at := len(out)
					out = append(out, 0xda, 0xbb, 2, 20)
					out = append(out, raw[4:12]...)
					out = append(out, 0, 0, 0, 0, 0x94)
					out = append(out, raw[lanetest.HeaderLen+44:]...)
					binary.BigEndian.PutUint32(out[at+12:], uint32(len(out)-at-lanetest.HeaderLen))
				}
				if len(out) > 0 {
					if _, err := p.Proxy.Write(out); err != nil {
						return
					}
				}
			}
		}()
	}
}

// measure calls for a while by all connections, and returns calls a second and the processor's
// microseconds for each.
func measure(b *testing.B, pairs []lanetest.Pair, size, depth int) (rate, cpu float64) {
	b.Helper()
	const while = 300 * time.Millisecond
	var before, after unix.Rusage
	lanetest.Must(b, unix.Getrusage(unix.RUSAGE_SELF, &before))
	began := time.Now()
	var calling sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for _, p := range pairs {
		calling.Go(func() {
			n, err := call(p.App, size, depth, began.Add(while))
			mu.Lock()
			defer mu.Unlock()
			if total += n; err != nil {
				b.Error(err)
			}
		})
	}
	calling.Wait()
	elapsed := time.Since(began)
	lanetest.Must(b, unix.Getrusage(unix.RUSAGE_SELF, &after))
	spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	return float64(total) / elapsed.Seconds(), float64(spent) / 1000 / float64(total)
}

// call keeps depth calls in flight: what came is followed by as many in one write.
func call(c *net.TCPConn, size, depth int, until time.Time) (done int, err error) {
	f := lanetest.Frame{Kind: lanetest.Call, Serialization: lane.Hessian2, Method: "echo", Size: size}
	frame := f.Append(nil)
	rd := lanetest.NewReader(c)
	id, flying, n := uint64(0), 0, depth
	var out []byte
	for {
		out = out[:0]
		for range n {
			id++
			at := len(out)
			out = append(out, frame...)
			binary.BigEndian.PutUint64(out[at+4:], id)
		}
		if _, err := c.Write(out); err != nil {
			return done, fmt.Errorf("call: %w", err)
		}
		flying += n
		for n = 0; n == 0; {
			if err := rd.More(); err != nil {
				return done, err
			}
			for raw, _ := rd.Next(); raw != nil; raw, _ = rd.Next() {
				n++
			}
		}
		flying -= n
		if done += n; time.Now().After(until) {
			for ; flying > 0; done++ {
				raw, _ := rd.Next()
				if raw == nil {
					if err := rd.More(); err != nil {
						return done, err
					}
					continue
				}
				flying--
			}
			return done, nil
		}
	}
}
