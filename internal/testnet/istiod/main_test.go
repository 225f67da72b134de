//go:build e2e

package istiod_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

func TestMain(m *testing.M) {
	testnet.Dispatch(map[string]testnet.Helper{"provider": provide, "calls": calls})
	os.Exit(meshtest.Main(m, "is"))
}

// provide is the provider's process: provide NAME.
func provide(args []string) error {
	listener, err := net.Listen("tcp", "[::]:20880")
	if err != nil {
		return err
	}
	return (&dubbotest.Provider{Name: args[0]}).Serve(listener)
}

// ask is what a consumer's process is to do.
type ask struct {
	Batch   bool   // of the other consumer
	Outside bool   // of the pod that the mesh does not know
	Target  string // ADDRESS:PORT
	N       int
	Request dubbotest.Request
	Pause   time.Duration // after each call
	Until   string        // the provider whose answer ends it; "" for none
	While   string        // a file whose end ends it, in place of N; "" for none
	Fresh   bool          // each call on a connection of its own
}

// answers is what it saw.
type answers struct {
	By     map[string]int // answers by provider, or "status N", "thrown", "error"
	Errors []string
	At     time.Time // when the provider of Until answered
	Said   string    // the last answer's value
	Again  int       // calls whose connection ended before the answer, and which were made once more
}

// call makes one call and notes what became of it.
func (r *answers) call(c *dubbotest.Client, request dubbotest.Request) (by string) {
	a, err := c.Call(request, []byte("x"), 30*time.Second)
	switch {
	case err != nil:
		by, a.Error = "error", err.Error()
	case a.Status != dubbotest.StatusOK:
		by = fmt.Sprintf("status %d", a.Status)
	case a.Error != "":
		by = "thrown"
	default:
		by, r.Said = a.Provider, string(a.Value)
	}
	if a.Error != "" && len(r.Errors) < 5 {
		r.Errors = append(r.Errors, a.Error)
	}
	r.By[by]++
	return by
}

// calls is the consumer's process: calls TAG JSON.
func calls(args []string) error {
	var a ask
	if err := json.Unmarshal([]byte(args[1]), &a); err != nil {
		return err
	}
	r := &answers{By: map[string]int{}}
	if a.Fresh {
		r.run(&a, func() string { return r.fresh(&a) })
	} else {
		r.connection(&a)
	}
	said, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(os.Stdout, "%s%s\n", args[0], said)
	return err
}

// connection makes the calls on one connection.
func (r *answers) connection(a *ask) {
	if c := r.dial(a, 2*time.Second); c != nil {
		defer c.Close()
		r.run(a, func() string { return r.call(c, a.Request) })
	}
}

// fresh makes one call on a connection of its own, and once more if that ends before the
// answer: so does every consumer of Dubbo.
func (r *answers) fresh(a *ask) (by string) {
	for again := range 2 {
		c := r.dial(a, 30*time.Second)
		if c == nil {
			return "error"
		}
		by = r.call(c, a.Request)
		_ = c.Close()
		if by != "error" || again > 0 {
			break
		}
		r.Again++
		if r.By[by]--; r.By[by] == 0 {
			delete(r.By, by)
		}
	}
	return by
}

// dial connects, or notes that it could not. The kernel accepts what is steered; what is not
// steered goes nowhere, and is told so by an ICMP message or, beyond their rate limit, not at
// all.
func (r *answers) dial(a *ask, limit time.Duration) *dubbotest.Client {
	conn, err := net.DialTimeout("tcp", a.Target, limit)
	if err != nil {
		r.By["connect"]++
		r.Errors = append(r.Errors, err.Error())
		return nil
	}
	return dubbotest.NewClient(conn)
}

// run makes the calls, one after the other.
func (r *answers) run(a *ask, call func() string) {
	for i := 0; a.While != "" || i < a.N; i++ {
		if a.While != "" {
			if _, err := os.Stat(a.While); err != nil {
				return
			}
		}
		switch by := call(); by {
		case a.Until:
			r.At = time.Now()
			return
		case "error":
			return // with its connection
		}
		time.Sleep(a.Pause)
	}
}
