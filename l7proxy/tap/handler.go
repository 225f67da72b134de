package tap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/dubway/dubway/internal/admin"
)

// The bounds of a top's interval.
const (
	minInterval = 100 * time.Millisecond
	maxInterval = time.Minute
)

// The refusals of bodies.
var (
	errBodiesOff = errors.New("this proxy shows no bodies: it was started with --tap-bodies=false")
	errBodiesWho = errors.New("bodies hold what applications say to each other: only root and the proxy's own user may read them")
)

// TapHandler answers admin.PathTap: an admin.TapRequest, then one admin.TapEvent
// a line. With bodies false it refuses to show any, whoever asks.
func (h *Hub) TapHandler(bodies bool, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q admin.TapRequest
		err := admin.ReadJSON(r, &q)
		var f *filter
		if err == nil {
			f, err = compile(&q.TapFilter)
		}
		if err == nil && q.Limit < 0 {
			err = fmt.Errorf("limit %d is below 0", q.Limit)
		}
		if err != nil {
			admin.WriteError(w, http.StatusBadRequest, err)
			return
		}
		uid, known := admin.PeerUID(r.Context())
		if q.Bodies {
			if err := mayRead(bodies, uid, known); err != nil {
				admin.WriteError(w, http.StatusForbidden, err)
				return
			}
		}
		tap := newWatch(f, q.Bodies)
		h.serve(w, tap, func(to *admin.Stream) error {
			log.Info("tap begins", "uid", uid, "bodies", q.Bodies, "pod", q.Pod, "interface", q.Interface, "method", q.Method)
			defer log.Info("tap ends", "uid", uid)
			return tap.follow(r.Context(), to, q.Limit)
		})
	})
}

// mayRead tells why a peer may not read bodies.
func mayRead(bodies bool, uid int, known bool) error {
	switch {
	case !bodies:
		return errBodiesOff
	case !known || uid != 0 && uid != os.Getuid():
		return errBodiesWho
	}
	return nil
}

// serve lets a watcher join for as long as run runs.
func (h *Hub) serve(w http.ResponseWriter, who watcher, run func(*admin.Stream) error) {
	if err := h.join(who); err != nil {
		admin.WriteError(w, http.StatusConflict, err)
		return
	}
	defer h.leave(who)
	to, err := admin.NewStream(w)
	if err != nil {
		admin.WriteError(w, http.StatusInternalServerError, err)
		return
	}
	_ = run(to) // its error is that the reader went away
}

// TopHandler answers admin.PathTop: an admin.TopRequest, then one
// admin.TopReport a line.
func (h *Hub) TopHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q admin.TopRequest
		err := admin.ReadJSON(r, &q)
		interval := time.Second
		if err == nil && q.Interval != "" {
			interval, err = time.ParseDuration(q.Interval)
		}
		switch {
		case err != nil:
		case interval < minInterval || interval > maxInterval:
			err = fmt.Errorf("interval %s is not between %s and %s", interval, minInterval, maxInterval)
		case !slices.Contains(admin.TopBy(), q.By):
			err = fmt.Errorf("cannot add up by %q: there are %v", q.By, admin.TopBy())
		case q.Reports < 0:
			err = fmt.Errorf("%d reports are below 0", q.Reports)
		}
		var f *filter
		if err == nil {
			f, err = compile(&admin.TapFilter{Pod: q.Pod, Interface: q.Interface, Method: q.Method})
		}
		if err != nil {
			admin.WriteError(w, http.StatusBadRequest, err)
			return
		}
		t := newTop(q.By, f)
		t.collect = h.Collect
		h.serve(w, t, func(to *admin.Stream) error { return t.follow(r.Context(), to, interval, q.Reports) })
	})
}

// follow writes a report for each interval until ctx ends, the reader does, or
// there were so many (0: no limit).
func (t *top) follow(ctx context.Context, to *admin.Stream, interval time.Duration, reports int) error {
	clock := time.NewTicker(interval)
	defer clock.Stop()
	last := time.Now()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-clock.C:
		}
		if t.collect != nil {
			t.collect()
		}
		now := time.Now()
		if err := to.Send(t.report(now, now.Sub(last))); err != nil {
			return err
		}
		if last = now; n == reports {
			return nil
		}
	}
}
