package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

const (
	socketMode   = 0o660
	maxRequest   = 1 << 20
	readTimeout  = 5 * time.Second
	writeTimeout = 30 * time.Second
	drainTimeout = time.Second
)

// Serve answers on a unix socket until ctx ends, then drains for a second and
// returns nil. The socket is readable and writable by owner and group only; a
// stale one, whose process is gone, is replaced, a live one is an error. The
// directory must exist.
func Serve(ctx context.Context, socket string, handler http.Handler, log *slog.Logger) error {
	listener, err := listen(ctx, socket)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           http.MaxBytesHandler(handler, maxRequest),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withPeer,
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if err := server.Shutdown(drain); err != nil {
			server.Close()
		}
	})
	log.Info("admin socket open", "socket", socket)
	err = server.Serve(listener)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve admin socket %s: %w", socket, err)
}

// listen binds the socket, replacing one that nobody answers.
func listen(ctx context.Context, socket string) (net.Listener, error) {
	if err := removeStale(ctx, socket); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listen on admin socket: %w", err)
	}
	// Until here the umask rules; it may keep the group out, never let others in
	// unless it was set to do so, and the directory is the process's own.
	if err := os.Chmod(socket, socketMode); err != nil {
		listener.Close()
		return nil, fmt.Errorf("restrict admin socket: %w", err)
	}
	return listener, nil
}

// removeStale removes a socket that a dead process left behind. It removes
// nothing but a socket, and no socket that somebody listens on.
func removeStale(ctx context.Context, socket string) error {
	info, err := os.Lstat(socket)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for admin socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("open admin socket %s: something that is no socket is in the way; remove it", socket)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err == nil {
		conn.Close()
		return fmt.Errorf("open admin socket %s: another process answers there; stop it, or use another --state-dir", socket)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("try admin socket: %w", err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove stale admin socket: %w", err)
	}
	return nil
}

// WriteJSON answers with a document of this package.
func WriteJSON(w http.ResponseWriter, document any) {
	data, err := json.Marshal(document)
	if err != nil {
		WriteError(w, http.StatusInternalServerError, fmt.Errorf("encode answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(data, '\n')) //nolint:errcheck // the client went away; nobody is left to tell
}

// WriteError answers with an Error.
func WriteError(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(Error{APIVersion: APIVersion, Error: err.Error()}) //nolint:errcheck,errchkjson // as above
}

// ReadJSON reads the body of a request strictly: an unknown field is an error.
func ReadJSON(r *http.Request, document any) error {
	decoder := json.NewDecoder(io.LimitReader(r.Body, maxRequest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(document); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	return nil
}
