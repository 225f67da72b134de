package admin

import (
	"fmt"
	"time"
)

// Identity is a service account that pods of this node run as, and the certificate that
// proves it.
type Identity struct {
	Namespace      string     `json:"namespace"`
	ServiceAccount string     `json:"serviceAccount"`
	ID             string     `json:"id,omitempty"` // its SPIFFE ID; "": there was no certificate yet
	Pods           int        `json:"pods"`
	Expires        *time.Time `json:"expires,omitempty"`
	Renewed        *time.Time `json:"renewed,omitempty"`
	// Error says why there is no certificate, or why it was not renewed.
	Error string `json:"error,omitempty"`
	// ControlPlane is how the control plane is asked for what its pods see: "certificate",
	// "plaintext", or "" where it was not asked yet.
	ControlPlane string `json:"controlPlane,omitempty"`
}

// Problem is the sentence that an operator should act on, or "".
func (i *Identity) Problem(now time.Time) string {
	name := i.Namespace + "/" + i.ServiceAccount
	switch {
	case i.Error == "":
		return ""
	case i.Expires == nil:
		return fmt.Sprintf("no certificate of %s: %s", name, i.Error)
	case !now.Before(*i.Expires):
		return fmt.Sprintf("the certificate of %s expired at %s: %s", name, i.Expires.Format(time.RFC3339), i.Error)
	}
	return fmt.Sprintf("the certificate of %s, which expires at %s, is not renewed: %s", name, i.Expires.Format(time.RFC3339), i.Error)
}

// String says it in a few words.
func (m Memory) String() string {
	const mib = 1 << 20
	if m.Limit == 0 {
		return fmt.Sprintf("%d MiB, no limit", m.Used/mib)
	}
	return fmt.Sprintf("%d of %d MiB, %s", m.Used/mib, m.Limit/mib, m.Level)
}
