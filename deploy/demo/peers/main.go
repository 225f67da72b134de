// Command peers is the demo's application: a real dubbo-go provider and a real
// dubbo-go consumer of one service, speaking the dubbo protocol over a direct
// URL. It knows nothing of the mesh. It lives in a module of its own so that
// dubbo-go never reaches the product's go.mod.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	getty "github.com/apache/dubbo-getty"
	"github.com/dubbogo/gost/log/logger"
	"go.uber.org/zap"
)

// Interface is the Dubbo interface that both peers share.
const Interface = "org.dubway.demo.Shop"

// Usage tells how the two halves are run.
const Usage = `usage: peers provider VERSION PORT
       peers consumer ADDRESS:PORT [INTERVAL [RECONNECT]]`

func main() {
	quiet := zap.NewNop().Sugar()
	logger.SetLogger(quiet)
	getty.SetLogger(quiet) // getty logs a line per frame otherwise
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch {
	case len(args) == 3 && args[0] == "provider":
		return provide(ctx, args[1], args[2])
	case len(args) >= 2 && len(args) <= 4 && args[0] == "consumer":
		interval, err := duration(args, 2, 20*time.Millisecond)
		if err != nil {
			return err
		}
		reconnect, err := duration(args, 3, time.Second)
		if err != nil {
			return err
		}
		return consume(ctx, args[1], interval, reconnect)
	}
	return fmt.Errorf("unknown arguments %q\n%s", args, Usage)
}

func duration(args []string, i int, otherwise time.Duration) (time.Duration, error) {
	if len(args) <= i {
		return otherwise, nil
	}
	d, err := time.ParseDuration(args[i])
	if err != nil {
		return 0, fmt.Errorf("parse duration: %w", err)
	}
	return d, nil
}
