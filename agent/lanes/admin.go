package lanes

import (
	"context"
	"errors"
	"net/http"

	"github.com/dubway/dubway/internal/admin"
)

// errOver says that another agent decides.
var errOver = errors.New("choose lanes: this agent is not the active one of its node any more; ask the one that took over")

// Handler answers on the agent's admin socket: how things are, and by POST that another
// mode is chosen.
func (l *Lanes) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+admin.PathNodeLanes, func(w http.ResponseWriter, _ *http.Request) {
		l.write(w)
	})
	mux.HandleFunc("POST "+admin.PathNodeLanes, func(w http.ResponseWriter, r *http.Request) {
		var asked admin.LaneChoice
		err := admin.ReadJSON(r, &asked)
		var choice Choice
		if err == nil {
			choice, err = Parse(asked.Mode)
		}
		if err != nil {
			admin.WriteError(w, http.StatusBadRequest, err)
			return
		}
		if l.isOver() {
			admin.WriteError(w, http.StatusConflict, errOver)
			return
		}
		l.Choose(choice)
		l.Decide(context.WithoutCancel(r.Context()))
		l.write(w)
	})
	return mux
}

func (l *Lanes) write(w http.ResponseWriter) {
	s := l.Status()
	s.APIVersion = admin.APIVersion
	admin.WriteJSON(w, s)
}
