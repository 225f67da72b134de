package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// sigBusy has the consumer call all the time. Before, it makes one call.
const sigBusy = syscall.SIGUSR1

// provide is the provider's process: provider NAME ADDRESS.
func provide(args []string) error {
	l, err := net.Listen("tcp", args[1])
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return (&dubbotest.Provider{Name: args[0]}).Serve(l)
}

// call is the consumer's process: caller ADDRESS. It prints when calls begin to reach
// another provider, and which. While nobody steers its connects, they go nowhere.
func call(args []string) error {
	busy := make(chan os.Signal, 1)
	signal.Notify(busy, sigBusy)
	var conn net.Conn
	for conn == nil {
		c, err := net.DialTimeout("tcp", args[0], 20*time.Millisecond)
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		conn = c
	}
	client := dubbotest.NewClient(conn)
	last := ""
	for n := 0; ; n++ {
		if n == 1 {
			<-busy
		}
		a, err := client.Call(dubbotest.Request{}, []byte("x"), time.Minute)
		if err != nil {
			return fmt.Errorf("call: %w", err)
		}
		now := time.Now()
		if a.Status != dubbotest.StatusOK {
			fmt.Fprintln(os.Stderr, "status", a.Status, a.Error)
			n--
			time.Sleep(time.Millisecond)
			continue
		}
		if a.Provider != last {
			last = a.Provider
			fmt.Fprintln(os.Stdout, "reached", now.UnixNano(), last)
		}
		time.Sleep(time.Millisecond)
	}
}

// answer is when calls began to reach a provider.
type answer struct {
	at   time.Time
	name string
}

// answers reads what a consumer printed so far.
func answers(p *testnet.Process) (all []answer) {
	for line := range strings.Lines(p.Output()) {
		if words := strings.Fields(line); len(words) == 3 && words[0] == "reached" && strings.HasSuffix(line, "\n") {
			nanos, _ := strconv.ParseInt(words[1], 10, 64)
			all = append(all, answer{time.Unix(0, nanos), words[2]})
		}
	}
	return all
}
