package live

import (
	"bytes"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
)

// TestUntilEOF: a stream that does not end by itself is ended by the end of the standard input,
// and not before.
func TestUntilEOF(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 2)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := admin.NewStream(w); err != nil {
			t.Error(err)
		}
		asked <- struct{}{}
		<-r.Context().Done()
	})}
	t.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
	for _, name := range []string{"tap", "top"} {
		held, open := net.Pipe()
		var out bytes.Buffer
		p := &Params{Stdin: held, Stdout: &out, Stderr: &out, Proxy: func() *admin.Client { return admin.NewClient(socket) }, JSON: func() bool { return false }}
		for _, c := range Commands(p) {
			if c.Name() != name {
				continue
			}
			c.SetArgs([]string{"--" + UntilEOF})
			ended := make(chan error, 1)
			go func() { ended <- c.ExecuteContext(t.Context()) }()
			select {
			case <-asked:
			case err := <-ended:
				t.Fatalf("%s ended before its standard input: %v\n%s", name, err, out.String())
			}
			_ = open.Close()
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("%s goes on without its standard input", name)
			}
		}
	}
}
