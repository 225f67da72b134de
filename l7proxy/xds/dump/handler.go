package dump

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/dubway/dubway/internal/admin"
)

// writeTime is how long a dump may take: whoever asked and does not read holds what was
// held then.
const writeTime = 5 * time.Minute

// Source says what there is to dump: the view of a pod, or with "" all of them. An error
// says what to ask otherwise.
type Source func(pod string) ([]View, error)

// Handler answers with a dump: GET PathDump?pod=POD, one ConfigDump a line for each view.
// There is one dump at a time.
func Handler(source Source) http.Handler {
	var busy sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !busy.TryLock() {
			admin.WriteError(w, http.StatusTooManyRequests, errBusy)
			return
		}
		defer busy.Unlock()
		views, err := source(r.URL.Query().Get("pod"))
		if err != nil {
			admin.WriteError(w, http.StatusNotFound, err)
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime)) // the server's own is for documents
		w.Header().Set("Content-Type", "application/json")
		for i := range views {
			if Write(w, &views[i], Limit) != nil {
				return // the client went away; nobody is left to tell
			}
		}
	})
}

var errBusy = errors.New("another dump is being written: ask again when it is done")
