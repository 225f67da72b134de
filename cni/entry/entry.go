// Package entry is the plugin's place in a network configuration: what cni/install
// writes into the node's conflist and cni/plugin reads there. It touches no file.
package entry

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Type is the name of the plugin, and of its binary.
const Type = "dubway-cni"

// DefaultTimeout is how long a pod's start waits for the agent. Runtimes give a sandbox
// two minutes or four, the kubelet's runtimeRequestTimeout is two.
const DefaultTimeout = 30 * time.Second

// maxTimeout is below every runtime's own deadline: past that nobody reads our message.
const maxTimeout = 100 * time.Second

// Versions are those of the CNI specification that the plugin speaks, in order.
func Versions() []string { return []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} }

// Mode says what becomes of a pod that the agent does not answer for.
type Mode string

// The modes.
const (
	Closed Mode = "closed" // it does not start; the runtime tries again
	Open   Mode = "open"   // it starts outside the mesh
)

// Entry is the plugin's element of "plugins". Its other fields are the runtime's.
type Entry struct {
	Type   string `json:"type"` // always Type
	Mode   Mode   `json:"mode"`
	Socket string `json:"socket"` // of the agent, as the host sees it
	// Exempt are namespaces whose pods are never asked about: the agent's own, since it
	// cannot answer before it runs, and those that the mesh leaves alone.
	Exempt []string `json:"exempt,omitempty"`
	// TimeoutSeconds bounds ADD; 0 is DefaultTimeout.
	TimeoutSeconds int `json:"timeoutSeconds,omitempty"`
	// ReportStatus lets STATUS fail while the agent cannot serve. Without it STATUS says
	// so in the runtime's log alone: see docs/cni.md.
	ReportStatus bool `json:"reportStatus,omitempty"`
	// Converted names the file of a single plugin that the installer made a list of.
	Converted string `json:"dubwayConverted,omitempty"`
}

// Parse reads an element of "plugins", with whatever the runtime added to it.
func Parse(text []byte) (*Entry, error) {
	e := &Entry{}
	if err := json.Unmarshal(text, e); err != nil {
		return nil, fmt.Errorf("parse configuration of %s: %w", Type, err)
	}
	if e.Mode == "" {
		e.Mode = Closed
	}
	if err := e.Validate(); err != nil {
		return nil, err
	}
	return e, nil
}

// Validate tells what the plugin could not work with.
func (e *Entry) Validate() error {
	switch {
	case e.Mode != Closed && e.Mode != Open:
		return fmt.Errorf("configuration of %s: mode is %q, must be %q or %q", Type, e.Mode, Closed, Open)
	case e.Socket == "" || e.Socket[0] != '/':
		return fmt.Errorf("configuration of %s: socket is %q, must be an absolute path", Type, e.Socket)
	case e.TimeoutSeconds < 0 || e.TimeoutSeconds > int(maxTimeout/time.Second):
		return fmt.Errorf("configuration of %s: timeoutSeconds is %d, must be at most %d",
			Type, e.TimeoutSeconds, int(maxTimeout/time.Second))
	case slices.Contains(e.Exempt, ""):
		return errors.New("configuration of " + Type + ": an exempt namespace has no name")
	}
	return nil
}

// Timeout bounds ADD.
func (e *Entry) Timeout() time.Duration {
	if e.TimeoutSeconds == 0 {
		return DefaultTimeout
	}
	return time.Duration(e.TimeoutSeconds) * time.Second
}

// Exempts tells whether pods of a namespace are never asked about.
func (e *Entry) Exempts(namespace string) bool { return slices.Contains(e.Exempt, namespace) }
