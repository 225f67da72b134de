// Command ratelimit is the real github.com/envoyproxy/ratelimit for the tests of the
// global rate limit, in a module of its own: what it depends on is no part of the mesh.
// Its counters are in a Redis that is written in Go and runs in the same process.
//
//	ratelimit CONFIG ADDRESS
//
// serves the limits of the directory CONFIG on ADDRESS.
package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/alicebob/miniredis/v2"
	"github.com/envoyproxy/ratelimit/src/service_cmd/runner"
	"github.com/envoyproxy/ratelimit/src/settings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ratelimit:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%d arguments, want CONFIG ADDRESS", len(args))
	}
	config, err := filepath.Abs(args[0])
	if err != nil {
		return fmt.Errorf("find configuration: %w", err)
	}
	host, port, err := net.SplitHostPort(args[1])
	if err != nil {
		return fmt.Errorf("read address: %w", err)
	}
	redis := miniredis.NewMiniRedis()
	if err := redis.StartAddr("127.0.0.1:0"); err != nil {
		return fmt.Errorf("start redis: %w", err)
	}
	// The service is configured by its environment alone.
	for name, value := range map[string]string{
		"REDIS_SOCKET_TYPE": "tcp", "REDIS_URL": redis.Addr(), "REDIS_POOL_SIZE": "2",
		"GRPC_HOST": host, "GRPC_PORT": port, "HOST": "127.0.0.1", "PORT": "0", "DEBUG_HOST": "127.0.0.1", "DEBUG_PORT": "0",
		"RUNTIME_ROOT": filepath.Dir(config), "RUNTIME_APPDIRECTORY": filepath.Base(config), "RUNTIME_WATCH_ROOT": "false",
		"DISABLE_STATS": "true", "LOG_LEVEL": "info",
	} {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	r := runner.NewRunner(settings.NewSettings())
	r.Run()
	return nil
}
