package admin_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
)

// streaming answers /v1/tap with lines for as long as the asker stays, and then
// tells of it.
func streaming(gone chan<- struct{}, lines int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if uid, known := admin.PeerUID(r.Context()); !known || uid != os.Getuid() {
			admin.WriteError(w, http.StatusForbidden, errors.New("who are you"))
			return
		}
		var q admin.TapRequest
		if err := admin.ReadJSON(r, &q); err != nil {
			admin.WriteError(w, http.StatusBadRequest, err)
			return
		}
		stream, err := admin.NewStream(w)
		if err != nil {
			admin.WriteError(w, http.StatusInternalServerError, err)
			return
		}
		for n := 0; n != lines; n++ {
			if stream.Send(&admin.TapEvent{Dropped: uint64(n)}, &admin.TapEvent{Interface: strings.Repeat("x", 100<<10)}) != nil {
				break
			}
			select {
			case <-r.Context().Done():
				n = lines - 1
			case <-time.After(time.Millisecond):
			}
		}
		if gone != nil {
			close(gone)
		}
	})
}

// TestFollow: lines come whole and in time, until either side has enough.
func TestFollow(t *testing.T) {
	client := admin.NewClient(serve(t, streaming(nil, 20)))
	defer client.Close()
	ctx := context.Background()
	var n, long int
	err := client.Follow(ctx, admin.PathTap, &admin.TapRequest{}, func(line []byte) error {
		n++
		if len(line) > 100<<10 {
			long++
		}
		return nil
	})
	if err != nil || n != 40 || long != 20 {
		t.Errorf("%d lines, %d long ones, error %v", n, long, err)
	}
	err = client.Follow(ctx, admin.PathTap, "no document", func([]byte) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "read request") {
		t.Errorf("a refusal is told as %v", err)
	}
	if err := admin.NewClient("/nowhere/proxy/admin.sock").Follow(ctx, admin.PathTap, nil, nil); !errors.Is(err, admin.ErrUnreachable) {
		t.Errorf("nobody there is told as %v", err)
	}
}

// TestFollowerLeaves: a stream outlives the server's time limits, and ends when
// the one who follows leaves.
func TestFollowerLeaves(t *testing.T) {
	enough := errors.New("enough")
	for _, how := range []string{"says so", "is cancelled"} {
		gone := make(chan struct{})
		client := admin.NewClient(serve(t, streaming(gone, -1)))
		ctx, cancel := context.WithCancel(context.Background())
		start := time.Now()
		err := client.Follow(ctx, admin.PathTap, &admin.TapRequest{}, func([]byte) error {
			switch {
			case how == "is cancelled":
				cancel()
			case time.Since(start) > 6*time.Second: // longer than the server lets a request be read
				return enough
			}
			return nil
		})
		if how == "says so" && !errors.Is(err, enough) || how == "is cancelled" && !errors.Is(err, context.Canceled) {
			t.Errorf("who %s is told %v", how, err)
		}
		select {
		case <-gone:
		case <-time.After(30 * time.Second):
			t.Errorf("the stream goes on after the follower %s", how)
		}
		cancel()
		client.Close()
	}
}
