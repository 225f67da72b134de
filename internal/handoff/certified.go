package handoff

import (
	"errors"
	"fmt"

	"github.com/dubway/dubway/internal/handoff/field"
)

// Certified says that the proxy has a certificate of a service account of this node, and
// so speaks TLS for the pods that run as it. It is sent for each certificate that comes,
// and for all that are held after each SnapshotEnd. What was said holds for the
// connection.
type Certified struct {
	Namespace      string `json:"namespace"`
	ServiceAccount string `json:"serviceAccount"`
	Expires        int64  `json:"expires"` // Unix time, seconds
}

func (c *Certified) validate() error {
	if c.Expires <= 0 {
		return fmt.Errorf("expires is %d", c.Expires)
	}
	return errors.Join(field.Name("namespace", c.Namespace), field.Name("serviceAccount", c.ServiceAccount))
}

// Certified tells the agent of a certificate; ErrNotConnected if there is no agent. The
// next one is told after its SnapshotEnd.
func (c *Client) Certified(one *Certified) error {
	return c.tell(&Message{Kind: KindCertified, Certified: one})
}
