package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"dubbo.apache.org/dubbo-go/v3/common/constant"
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
	"github.com/apache/dubbo-go-hessian2/java_exception"
)

// Interface is the Dubbo interface that all peers share.
const Interface = "org.dubway.test.Probe"

// Probe is the provider's side. What Java alone can do is not in it: a callback
// argument, and a class that only the provider has.
type Probe struct{ name string }

// Reference names the service inside dubbo-go.
func (p *Probe) Reference() string { return "Probe" + p.name }

// MethodMapper gives the methods their names on the wire.
func (p *Probe) MethodMapper() map[string]string {
	return map[string]string{
		"Echo": "echo", "Who": "who", "Attach": "attach", "Fail": "fail",
		"Later": "later", "Sleep": "sleep", "Tell": "tell", "Told": "told",
	}
}

// Echo returns its argument.
func (p *Probe) Echo(_ context.Context, text string) (string, error) { return text, nil }

// Who returns the provider's name.
func (p *Probe) Who(context.Context) (string, error) {
	books.add("served")
	return p.name, nil
}

// Attach returns the attachment of that name. dubbo-go answers with the request's
// attachments, so that what is put into them arrives.
func (p *Probe) Attach(ctx context.Context, name string) (string, error) {
	all, _ := ctx.Value(constant.AttachmentKey).(map[string]any)
	value, _ := all[name].(string)
	if values, ok := all[name].([]string); ok && len(values) > 0 {
		value = values[0]
	}
	if all != nil {
		all["reply"] = value + "!"
	}
	return value, nil
}

// Fail throws.
func (p *Probe) Fail(_ context.Context, kind string) (string, error) {
	switch kind {
	case "checked":
		return "", &ProbeException{DetailMessage: "checked by " + p.name, Code: 42}
	case "runtime":
		return "", java_exception.NewIllegalStateException("runtime by " + p.name)
	}
	return "", errors.New("plain by " + p.name)
}

// Later answers a little later.
func (p *Probe) Later(_ context.Context, text string) (string, error) {
	time.Sleep(5 * time.Millisecond)
	return text, nil
}

// Sleep answers after so many milliseconds.
func (p *Probe) Sleep(_ context.Context, millis int32) (string, error) {
	fmt.Println("sleeping") // tests wait for it
	time.Sleep(time.Duration(millis) * time.Millisecond)
	return p.name, nil
}

// Tell counts a call of a name.
func (p *Probe) Tell(_ context.Context, name string) error {
	told.add(name)
	return nil
}

// Told returns how often Tell was called with a name.
func (p *Probe) Told(_ context.Context, name string) (int32, error) { return told.of(name), nil }

// provide serves Probe, plain and as blue/1.2.0, until the context ends.
func provide(ctx context.Context, port, name string) error {
	number, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("parse port: %w", err)
	}
	// The metadata service would take the port first and panic on the service's
	// own listen; "remote" keeps it away.
	app := global.DefaultApplicationConfig()
	app.Name, app.MetadataType = "probe-provider", "remote"
	srv, err := server.NewServer(
		server.SetServerApplication(app),
		server.WithServerProtocol(protocol.WithDubbo(), protocol.WithIp("[::]"), protocol.WithPort(number)))
	if err != nil {
		return fmt.Errorf("make server: %w", err)
	}
	if err := srv.RegisterService(&Probe{name: name}, server.WithInterface(Interface)); err != nil {
		return fmt.Errorf("register service: %w", err)
	}
	if err := srv.RegisterService(&Probe{name: name + "/blue/1.2.0"}, server.WithInterface(Interface),
		server.WithGroup("blue"), server.WithVersion("1.2.0")); err != nil {
		return fmt.Errorf("register service: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve() }()
	fmt.Println("READY")
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		return nil
	}
}
