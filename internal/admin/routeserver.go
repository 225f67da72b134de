package admin

import (
	"fmt"
	"time"
)

// RouteServer is how things are with a server of tables of routes beside the control plane:
// Aeraki's.
type RouteServer struct {
	Cluster   string    `json:"cluster"`           // by which listeners name it
	Address   string    `json:"address,omitempty"` // "" if nobody says where it is
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	Reason    string    `json:"reason,omitempty"`  // why it is not connected
	Wanted    int       `json:"wanted"`            // tables
	Missing   int       `json:"missing"`           // of those, what was never told: calls to their hosts are refused
	Refused   string    `json:"refused,omitempty"` // why tables of its last response are rejected
}

// Problem is the sentence that an operator should act on, or "".
func (r *RouteServer) Problem(view string) string {
	switch {
	case r.Connected && r.Refused != "":
		return fmt.Sprintf("tables of %s for the view %s are rejected, and their last good versions stay: %s", r.Cluster, view, r.Refused)
	case r.Connected:
		return ""
	}
	reason := r.Reason
	if reason == "" {
		reason = "it has not answered yet"
	}
	holds := "what it told last goes on"
	if r.Missing > 0 {
		holds = fmt.Sprintf("calls to %d of %d hosts are refused, for which there is no table", r.Missing, r.Wanted)
	}
	return fmt.Sprintf("no server of routes %s for the view %s since %s: %s; %s",
		r.Cluster, view, r.Since.Format(time.RFC3339), reason, holds)
}
