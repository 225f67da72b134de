// Command dubbo-go is a real dubbo-go provider and a real dubbo-go consumer of
// the service that test/dubbo-java has too. It knows nothing of the mesh, and it
// lives in a module of its own so that dubbo-go never reaches the product's go.mod.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"dubbo.apache.org/dubbo-go/v3/remoting/getty"
	dubbogetty "github.com/apache/dubbo-getty"
	hessian "github.com/apache/dubbo-go-hessian2"
	"github.com/dubbogo/gost/log/logger"
	"go.uber.org/zap"
)

const usage = `usage: dubbo-go provider PORT NAME
       dubbo-go consumer [JOB]   without a job: one on each line of standard input
       dubbo-go load JOB         calls without end, and counts

All but consumer count into the folder that PROBE_COUNTS names, if it does.`

// maxFrame is what both roles take: the mesh's limit is what is tested.
const maxFrame = 64 << 20

func main() {
	quiet := zap.NewNop().Sugar()
	logger.SetLogger(quiet)
	dubbogetty.SetLogger(quiet) // it logs a line per frame otherwise
	hessian.RegisterPOJO(&ProbeException{})
	kept.register()
	client := *getty.GetDefaultClientConfig()
	client.GettySessionParam.MaxMsgLen = maxFrame
	client.HeartbeatPeriod = "1s"
	getty.SetClientConf(client)
	provider := getty.GetServerConfig()
	provider.GettySessionParam.MaxMsgLen = maxFrame
	getty.SetServerConfig(provider)
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dubbo-go:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch {
	case len(args) == 3 && args[0] == "provider":
		return provide(ctx, args[1], args[2])
	case len(args) >= 1 && args[0] == "consumer":
		return consume(strings.Join(args[1:], " "))
	case len(args) >= 2 && args[0] == "load":
		return load(ctx, strings.Join(args[1:], " "))
	}
	return fmt.Errorf("unknown arguments %q\n%s", args, usage)
}
