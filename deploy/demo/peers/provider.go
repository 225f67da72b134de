package main

import (
	"context"
	"fmt"
	"strconv"

	// The filters that a provider has by default: each must be imported by name.
	_ "dubbo.apache.org/dubbo-go/v3/filter/accesslog"
	_ "dubbo.apache.org/dubbo-go/v3/filter/echo"
	_ "dubbo.apache.org/dubbo-go/v3/filter/exec_limit"
	_ "dubbo.apache.org/dubbo-go/v3/filter/generic"
	_ "dubbo.apache.org/dubbo-go/v3/filter/graceful_shutdown"
	_ "dubbo.apache.org/dubbo-go/v3/filter/token"
	_ "dubbo.apache.org/dubbo-go/v3/filter/tps"
	_ "dubbo.apache.org/dubbo-go/v3/filter/tps/limiter"
	_ "dubbo.apache.org/dubbo-go/v3/filter/tps/strategy"
	"dubbo.apache.org/dubbo-go/v3/global"
	"dubbo.apache.org/dubbo-go/v3/protocol"
	_ "dubbo.apache.org/dubbo-go/v3/protocol/dubbo"
	_ "dubbo.apache.org/dubbo-go/v3/proxy/proxy_factory"
	"dubbo.apache.org/dubbo-go/v3/server"
)

// Shop answers each call with its own version, so that a consumer can tell who
// served it.
type Shop struct{ version string }

// Reference names the service inside dubbo-go.
func (s *Shop) Reference() string { return "Shop" }

// MethodMapper gives the methods their names on the wire.
func (s *Shop) MethodMapper() map[string]string {
	return map[string]string{"Browse": "browse", "Checkout": "checkout"}
}

// Browse is the method that both versions serve alike.
func (s *Shop) Browse(_ context.Context, _ string) (string, error) { return s.version, nil }

// Checkout is the method that the demo routes to v2 alone.
func (s *Shop) Checkout(_ context.Context, _ string) (string, error) { return s.version, nil }

// provide serves Shop until the context ends.
func provide(ctx context.Context, version, port string) error {
	number, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("parse port: %w", err)
	}
	// The metadata service would take the port first and panic on the service's
	// own listen; "remote" keeps it away.
	app := global.DefaultApplicationConfig()
	app.Name, app.MetadataType = "shop-"+version, "remote"
	srv, err := server.NewServer(
		server.SetServerApplication(app),
		server.WithServerProtocol(protocol.WithDubbo(), protocol.WithIp("0.0.0.0"), protocol.WithPort(number)))
	if err != nil {
		return fmt.Errorf("make server: %w", err)
	}
	if err := srv.RegisterService(&Shop{version: version}, server.WithInterface(Interface)); err != nil {
		return fmt.Errorf("register service: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve() }()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		return nil
	}
}
