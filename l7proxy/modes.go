package l7proxy

import (
	"errors"
	"net/http"
	"os"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/mode"
)

// modes lists what the mesh does to each workload.
func (p *Proxy) modes() admin.ModeList {
	list := admin.ModeList{APIVersion: admin.APIVersion, Items: []admin.ModeStatus{}}
	for _, e := range p.env.Modes.All() {
		list.Items = append(list.Items, admin.ModeStatus{UID: e.UID, Namespace: e.Namespace, Name: e.Name, Mode: e.Mode.String(), By: e.By})
	}
	return list
}

// errWho: it takes policies out of force.
var errWho = errors.New("only root and the proxy's own user may change modes")

// setMode is what an operator says of a workload or a namespace.
func (p *Proxy) setMode(w http.ResponseWriter, r *http.Request) {
	if uid, known := admin.PeerUID(r.Context()); !known || uid != 0 && uid != os.Getuid() {
		admin.WriteError(w, http.StatusForbidden, errWho)
		return
	}
	var q admin.ModeRequest
	if err := admin.ReadJSON(r, &q); err != nil {
		admin.WriteError(w, http.StatusBadRequest, err)
		return
	}
	uids, err := p.env.Modes.Say(q.Workload, q.Mode)
	if err != nil {
		admin.WriteError(w, http.StatusBadRequest, err)
		return
	}
	p.log.Info("mode", "workload", q.Workload, "mode", q.Mode, "pods", len(uids))
	for _, uid := range uids {
		p.leave(uid)
	}
	admin.WriteJSON(w, p.modes())
}

// leave ends the live connections of a workload that is off now, so that they are
// dialled anew and passed on as they are.
func (p *Proxy) leave(uid string) {
	p.riders.Look()
	if p.env.Modes.Of(uid).Mode() == mode.Off {
		p.listeners.Drain(uid)
	}
}
