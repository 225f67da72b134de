// Package echo holds the commands that make one real Dubbo call: a provider that
// answers with what it is sent, and a consumer that calls it until it is answered. The
// chart's `helm test` runs them in two pods; by hand they tell whether a way through the
// mesh is open. They know nothing of the mesh.
package echo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// Write writes a document, or the rows of its table, of which the first is the heading.
type Write func(document any, rows [][]any) error

const (
	pause    = 500 * time.Millisecond // between attempts
	patience = 5 * time.Second        // for a connection, and for an answer
)

// Reply is what became of a call.
type Reply struct {
	APIVersion string `json:"apiVersion"`
	Provider   string `json:"provider"` // as it calls itself
	Consumer   string `json:"consumer"` // the consumer's address, as the provider saw it
	Attempts   int    `json:"attempts"` // the answered one included
	Micros     int64  `json:"micros"`   // that one took
}

// Command returns the commands.
func Command(write Write) *cobra.Command {
	c := &cobra.Command{
		Use:   "echo",
		Short: "Make one real Dubbo call, and be the provider of one",
		Args:  cobra.NoArgs,
	}
	c.AddCommand(serveCommand(), callCommand(write))
	return c
}

func serveCommand() *cobra.Command {
	var listen, name string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Answer Dubbo calls of any interface with their argument",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return serve(c.Context(), listen, name) },
	}
	c.Flags().StringVar(&listen, "listen", ":20880", "ADDRESS:PORT to serve at")
	c.Flags().StringVar(&name, "name", "echo", "what the provider calls itself")
	return c
}

// serve serves until ctx ends.
func serve(ctx context.Context, address, name string) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("serve echo: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	return (&dubbotest.Provider{Name: name}).Serve(listener)
}

func callCommand(write Write) *cobra.Command {
	var within time.Duration
	c := &cobra.Command{
		Use:   "call ADDRESS:PORT",
		Short: "Call a provider until it answers, each time on a new connection",
		Long: "Call the provider at an address, a Dubbo call with one argument, until it answers with the argument,\n" +
			"each time on a new connection: a mesh that has just been switched on steers new ones alone.",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			reply, err := callWithin(c.Context(), args[0], within)
			if err != nil {
				return err
			}
			return write(reply, [][]any{
				{"PROVIDER", "SAW CONSUMER", "ATTEMPTS", "MICROSECONDS"},
				{reply.Provider, reply.Consumer, reply.Attempts, reply.Micros},
			})
		},
	}
	c.Flags().DurationVar(&within, "within", time.Minute, "how long to go on trying")
	return c
}

// callWithin calls until there is an answer, or the time is over.
func callWithin(ctx context.Context, address string, within time.Duration) (*Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for n := 1; ; n++ {
		reply, err := call(ctx, address)
		if err == nil {
			reply.Attempts = n
			return reply, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("call %s: not answered within %s; the last of %d attempts: %w", address, within, n, err)
		case <-time.After(pause):
		}
	}
}

// call makes one call on a connection of its own.
func call(ctx context.Context, address string) (*Reply, error) {
	dialer := net.Dialer{Timeout: patience}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	client := dubbotest.NewClient(conn)
	defer client.Close()
	const argument = "dubway"
	start := time.Now()
	answer, err := client.Call(dubbotest.Request{Interface: "org.dubway.Echo"}, []byte(argument), patience)
	switch {
	case err != nil:
		return nil, err
	case answer.Status != dubbotest.StatusOK:
		return nil, fmt.Errorf("answered with status %d: %s", answer.Status, answer.Error)
	case answer.Error != "":
		return nil, fmt.Errorf("answered with an exception: %s", answer.Error)
	case string(answer.Value) != argument:
		return nil, errors.New("answered with another value than it was sent: something else serves there")
	}
	return &Reply{
		APIVersion: admin.APIVersion, Provider: answer.Provider, Consumer: answer.Peer,
		Micros: time.Since(start).Microseconds(),
	}, nil
}
