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
// the medians of the rounds' ratios of throughput, and of the processor's time for a call. Calls that
// are in flight together share writes, of requests and of answers, or have one each: a verdict of
// the lane's for each frame.
func BenchmarkAgainstDirect(b *testing.B) {
	for _, size := range []int{128, 1024} {
		for _, shape := range []load{{1, 1, size, false}, {16, 1, size, false}, {1, 16, size, false}, {1, 16, size, true}} {
			b.Run(shape.String(), func(b *testing.B) {
				r := lanetest.New(b, 32)
				direct, laned := directPairs(b, r, shape.conns), lanedPairs(b, r, shape.conns)
				serveAll(direct, shape.apart)
				serveAll(laned, shape.apart)
				var rate, cpu, base []float64
				for b.Loop() {
					n, spent := measure(b, direct, shape)
					m, also := measure(b, laned, shape)
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

// load is how calls are made.
type load struct {
	conns, depth int
	size         int  // of requests, in bytes
	apart        bool // each frame has a write of its own
}

func (l load) String() string {
	if l.apart {
		return fmt.Sprintf("%dB/%dx%d/apart", l.size, l.conns, l.depth)
	}
	return fmt.Sprintf("%dB/%dx%d", l.size, l.conns, l.depth)
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
	return pairs
}

// serveAll answers by each pair's Proxy what comes: all that was read by one write, or apart.
func serveAll(pairs []lanetest.Pair, apart bool) {
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
				if write(p.Proxy, out, apart) != nil {
					return
				}
			}
		}()
	}
}

// write writes frames, whose lengths are in them: by one write, or apart.
func write(c net.Conn, frames []byte, apart bool) error {
	for len(frames) > 0 {
		n := len(frames)
		if apart {
			n = lanetest.HeaderLen + int(binary.BigEndian.Uint32(frames[12:]))
		}
		if _, err := c.Write(frames[:n]); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		frames = frames[n:]
	}
	return nil
}

// measure calls for a while by all connections, and returns calls a second and the processor's
// microseconds for each.
func measure(b *testing.B, pairs []lanetest.Pair, l load) (rate, cpu float64) {
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
			n, err := call(p.App, l, began.Add(while))
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

// call keeps depth calls in flight: what came is followed by as many.
func call(c *net.TCPConn, l load, until time.Time) (done int, err error) {
	f := lanetest.Frame{Kind: lanetest.Call, Serialization: lane.Hessian2, Method: "echo", Size: l.size}
	frame := f.Append(nil)
	rd := lanetest.NewReader(c)
	id, flying, n := uint64(0), 0, l.depth
	var out []byte
	for {
		out = out[:0]
		for range n {
			id++
			at := len(out)
			out = append(out, frame...)
			binary.BigEndian.PutUint64(out[at+4:], id)
		}
		if err := write(c, out, l.apart); err != nil {
			return done, err
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
