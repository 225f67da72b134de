// Command pod is what the machines and the pods of the test cluster run that is nobody's
// else: the first process of either, and the two ends of a plain connection.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `usage: pod init              the first process of a machine, until descriptor 3 ends
       pod pause             the first process of a pod, until SIGTERM
       pod serve PORT NAME   answers every request with NAME
       pod get URL           prints the answer, asking until there is one`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pod:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "init":
		ended := make(chan os.Signal, 1)
		go func() {
			_, _ = io.Copy(io.Discard, os.NewFile(3, "lifeline"))
			close(ended)
		}()
		reap(ended)
		return nil
	case len(args) == 1 && args[0] == "pause":
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM, os.Interrupt)
		reap(ended)
		return nil
	case len(args) == 3 && args[0] == "serve":
		return serve(args[1], args[2])
	case len(args) == 2 && args[0] == "get":
		return get(args[1])
	}
	return fmt.Errorf("unknown arguments %q\n%s", args, usage)
}

// reap takes the exit status of children whose parents ended before them, as a first
// process must.
func reap(until <-chan os.Signal) {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	for {
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
		select {
		case <-children:
		case <-until:
			return
		}
	}
}

// serve ends with SIGTERM, at once: the first process of a container has no defaults.
func serve(port, name string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server := &http.Server{
		Addr: ":" + port, ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }),
	}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	fmt.Fprintln(os.Stdout, "serves", name)
	if err := server.ListenAndServe(); ctx.Err() == nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// get asks for half a minute: rules of a Service reach a node when they do.
func get(url string) error {
	client := &http.Client{Timeout: 2 * time.Second}
	var last error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		answer, err := client.Get(url)
		if last = err; err != nil {
			continue
		}
		defer answer.Body.Close()
		_, err = io.Copy(os.Stdout, answer.Body)
		return err
	}
	return fmt.Errorf("get %s: %w", url, last)
}
