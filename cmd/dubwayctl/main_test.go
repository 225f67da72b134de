package main

import (
	"context"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dubway/dubway/cmd/dubwayctl/remote"
	"github.com/dubway/dubway/internal/admin"
)

var update = flag.Bool("update", false, "rewrite what scripts compare the output with")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dubwayctl": main, remote.Plugin: main})
}

// TestScripts runs testdata/*.txtar. Beside the usual commands a script has
//
//	serve agent DIR    answers on the agent's admin socket in $STATE
//	serve proxy DIR    the same for the proxy
//
// where DIR holds one file for each path: status.json for GET /v1/status. A
// POST to /v1/explain is answered with explain.json, and what was asked is
// written to DIR/explain.asked.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(e *testscript.Env) error {
			// Unix sockets have short paths; a script's directory may be deep.
			state, err := os.MkdirTemp("", "ctl") //nolint:usetesting // the path of t.TempDir is too long for a socket
			e.Defer(func() { os.RemoveAll(state) })
			e.Setenv("STATE", state)
			// Where the program is, for scripts that take everything else from the PATH.
			for dir := range strings.SplitSeq(e.Getenv("PATH"), string(filepath.ListSeparator)) {
				if ctl := filepath.Join(dir, "dubwayctl"); e.Getenv("CTL") == "" {
					if _, err := os.Stat(ctl); err == nil {
						e.Setenv("CTL", ctl)
					}
				}
			}
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"serve": serve},
	})
}

// serve runs a process' admin server until the script ends.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: serve agent|proxy DIR")
	}
	socket := admin.AgentSocket(ts.Getenv("STATE"))
	if args[0] == "proxy" {
		socket = admin.ProxySocket(ts.Getenv("STATE"))
	}
	ts.Check(os.MkdirAll(filepath.Dir(socket), 0o700))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- admin.Serve(ctx, socket, files(ts.MkAbs(args[1])), slog.New(slog.DiscardHandler)) }()
	ts.Defer(func() {
		cancel()
		ts.Check(<-done)
	})
	for range 6000 {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	ts.Fatalf("%s does not answer", socket)
}

// files answers /v1/NAME with NAME.json.
func files(dir string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/v1/")
		if r.Method == http.MethodPost {
			var asked any
			if err := admin.ReadJSON(r, &asked); err != nil {
				admin.WriteError(w, http.StatusBadRequest, err)
				return
			}
			if err := writeJSON(filepath.Join(dir, name+".asked"), asked); err != nil {
				admin.WriteError(w, http.StatusInternalServerError, err)
				return
			}
		}
		answer, err := os.ReadFile(filepath.Join(dir, name+".json"))
		if err != nil {
			admin.WriteError(w, http.StatusNotFound, err)
			return
		}
		w.Write(answer)
	})
}

func writeJSON(path string, document any) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return (&env{stdout: file, output: outputJSON}).write(document, nil)
}
