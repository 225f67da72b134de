package main

import (
	"context"
	"fmt"
	"time"

	"dubbo.apache.org/dubbo-go/v3/client"
	_ "dubbo.apache.org/dubbo-go/v3/cluster/cluster/failfast"
	_ "dubbo.apache.org/dubbo-go/v3/cluster/loadbalance/random"
	"dubbo.apache.org/dubbo-go/v3/common/constant"
	"dubbo.apache.org/dubbo-go/v3/common/extension"
)

// shop is the consumer's stub; dubbo-go fills its functions in.
type shop struct {
	Browse   func(ctx context.Context, name string) (string, error) `dubbo:"browse"`
	Checkout func(ctx context.Context, name string) (string, error) `dubbo:"checkout"`
}

// Reference names the service inside dubbo-go.
func (s *shop) Reference() string { return "shop" }

// consume calls the provider every interval until the context ends and prints
// one line per call: time, method, who answered, microseconds. Every fifth call
// is a checkout. The client is made anew after each reconnect period: a mesh
// that steers connections can reach it only when it opens one.
func consume(ctx context.Context, address string, interval, reconnect time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; {
		stub, err := dial(address)
		if err != nil {
			fmt.Printf("%s dial error %q\n", time.Now().Format(time.TimeOnly), err)
			pause(ctx, reconnect)
			continue
		}
		for end := time.Now().Add(reconnect); time.Now().Before(end) && ctx.Err() == nil; n++ {
			call(ctx, stub, n)
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		extension.GetProtocol(constant.DubboProtocol).Destroy()
	}
	return nil
}

func dial(address string) (stub *shop, err error) {
	// dubbo-go panics when the first connection of a client is refused.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("dial %s: %v", address, r)
		}
	}()
	cli, err := client.NewClient(client.WithClientProtocolDubbo(), client.WithClientRequestTimeout(3*time.Second))
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	stub = &shop{}
	_, err = cli.DialWithService(Interface, stub,
		client.WithURL("dubbo://"+address+"/"+Interface),
		client.WithProtocolDubbo(), client.WithSerialization(constant.Hessian2Serialization),
		client.WithClusterFailFast(), client.WithRetries(0))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return stub, nil
}

func call(ctx context.Context, stub *shop, n int) {
	method, f := "browse", stub.Browse
	if n%5 == 4 {
		method, f = "checkout", stub.Checkout
	}
	start := time.Now()
	version, err := attempt(ctx, f)
	took := time.Since(start).Microseconds()
	if err != nil {
		fmt.Printf("%s %s error %q\n", start.Format(time.TimeOnly), method, err)
		return
	}
	fmt.Printf("%s %s %s %d\n", start.Format(time.TimeOnly), method, version, took)
}

// attempt makes one call. dubbo-go panics in a call whose client has never had a
// connection.
func attempt(ctx context.Context, f func(context.Context, string) (string, error)) (version string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("no connection: %v", r)
		}
	}()
	return f(ctx, "guest")
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
