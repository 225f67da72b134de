// Package wire is what dubway-cni and the agent say to each other: one request and one
// answer on a connection of a unix socket, each one packet of JSON (SOCK_SEQPACKET). The
// pod's network namespace travels beside the request, as a descriptor, because its path
// means nothing in the agent's mounts. Both ends talk to root alone.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unicode/utf8"
)

// Version is raised by every change to what is below. The installer replaces the plugin
// when the agent changes, so two versions meet for a moment only.
const Version = 1

// What a message may hold. Lengths are in bytes.
const (
	MaxMessage    = 128 << 10 // below the smallest send buffer of a usual node, 208 KiB
	MaxContainers = 1800      // in one Keep, of IDs of 64 characters
	MaxTimeout    = 2 * time.Minute

	maxName      = 253 // of a pod or a namespace, by Kubernetes' rules
	maxID        = 128 // of a pod or a container
	maxAddresses = 32
	maxText      = 4 << 10 // of an error
)

// Verb is what the plugin asks for.
type Verb string

// The verbs, by the name of the one of the CNI specification.
const (
	Add    Verb = "add"
	Check  Verb = "check"
	Delete Verb = "del"
	Keep   Verb = "gc"
	Ready  Verb = "status"
)

// Request is the plugin's message.
type Request struct {
	Version int  `json:"version"`
	Verb    Verb `json:"verb"`
	// TimeoutMillis is how long the plugin waits for the answer.
	TimeoutMillis int64    `json:"timeoutMillis"`
	Sandbox       *Sandbox `json:"sandbox,omitempty"`    // of Add, Check and Delete
	Containers    []string `json:"containers,omitempty"` // of Keep: the IDs that the runtime still knows
}

// Sandbox is a pod's network as the runtime tells of it.
type Sandbox struct {
	ContainerID string       `json:"containerId"`
	UID         string       `json:"uid,omitempty"` // of the pod; old runtimes do not tell
	Namespace   string       `json:"namespace"`
	Name        string       `json:"name"`
	Addresses   []netip.Addr `json:"addresses,omitempty"` // never v4-mapped
}

// Answer is the agent's message.
type Answer struct {
	Version int    `json:"version"`
	Error   string `json:"error,omitempty"` // for the operator; "" is success
}

// ErrVersion is returned for a message of another version of this package.
var ErrVersion = errors.New("other version")

// Timeout is how long the plugin waits.
func (r *Request) Timeout() time.Duration { return time.Duration(r.TimeoutMillis) * time.Millisecond }

// namespaces is how many descriptors travel with r.
func (r *Request) namespaces() int {
	switch r.Verb {
	case Add, Check:
		return 1
	case Delete, Keep, Ready:
	}
	return 0
}

// EncodeRequest returns the packet of r. It refuses what DecodeRequest would.
func EncodeRequest(r *Request) ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return encode(r)
}

// DecodeRequest reads a packet. It believes nothing but what EncodeRequest makes.
func DecodeRequest(packet []byte) (*Request, error) {
	r := &Request{}
	if err := decode(packet, r); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	return r, nil
}

// EncodeAnswer returns the packet that tells of err, or of success.
func EncodeAnswer(err error) ([]byte, error) {
	a := &Answer{Version: Version}
	if err != nil {
		text := err.Error()
		a.Error = string([]rune(text[:min(len(text), maxText)]))
	}
	return encode(a)
}

// DecodeAnswer reads a packet. An answer of another version is ErrVersion with what
// its sender had to say.
func DecodeAnswer(packet []byte) (*Answer, error) {
	a := &Answer{}
	if err := decode(packet, a); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	return a, nil
}

func encode(message any) ([]byte, error) {
	packet, err := json.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	if len(packet) > MaxMessage {
		return nil, fmt.Errorf("encode message: %d bytes, %d are allowed", len(packet), MaxMessage)
	}
	return packet, nil
}

// decode reads a packet of this version. The version comes first: another one may have
// fields that this one does not know.
func decode(packet []byte, message any) error {
	if len(packet) > MaxMessage {
		return fmt.Errorf("%d bytes, %d are allowed", len(packet), MaxMessage)
	}
	if !utf8.Valid(packet) {
		return errors.New("not UTF-8")
	}
	var head struct {
		Version int    `json:"version"`
		Error   string `json:"error"`
	}
	if err := json.Unmarshal(packet, &head); err != nil { // or there is more than one
		return fmt.Errorf("not JSON: %w", err)
	}
	if head.Version != Version {
		return fmt.Errorf("%w: it speaks version %d, this is %d: %.200s", ErrVersion, head.Version, Version, head.Error)
	}
	d := json.NewDecoder(bytes.NewReader(packet))
	d.DisallowUnknownFields()
	if err := d.Decode(message); err != nil {
		return fmt.Errorf("not such a message: %w", err)
	}
	return nil
}

func (r *Request) validate() error {
	if r.Version != Version {
		return fmt.Errorf("%w: %d, this is %d", ErrVersion, r.Version, Version)
	}
	if r.TimeoutMillis <= 0 || r.Timeout() > MaxTimeout || r.TimeoutMillis > MaxTimeout.Milliseconds() {
		return fmt.Errorf("timeout of %d ms, must be within %s", r.TimeoutMillis, MaxTimeout)
	}
	if r.Verb != Keep && len(r.Containers) > 0 {
		return fmt.Errorf("containers with %q", r.Verb)
	}
	switch r.Verb {
	case Add, Check, Delete:
		if r.Sandbox == nil {
			return fmt.Errorf("%q without a sandbox", r.Verb)
		}
		return r.Sandbox.validate()
	case Keep, Ready:
		if r.Sandbox != nil {
			return fmt.Errorf("%q with a sandbox", r.Verb)
		}
	default:
		return fmt.Errorf("verb %q", r.Verb)
	}
	if len(r.Containers) > MaxContainers {
		return fmt.Errorf("%d containers, %d are allowed", len(r.Containers), MaxContainers)
	}
	for _, id := range r.Containers {
		if id == "" || len(id) > maxID {
			return fmt.Errorf("container ID %q", id)
		}
	}
	return nil
}

func (s *Sandbox) validate() error {
	switch {
	case s.ContainerID == "" || len(s.ContainerID) > maxID:
		return fmt.Errorf("container ID %q", s.ContainerID)
	case len(s.UID) > maxID:
		return fmt.Errorf("pod UID %q", s.UID)
	case s.Namespace == "" || len(s.Namespace) > maxName:
		return fmt.Errorf("namespace %q", s.Namespace)
	case s.Name == "" || len(s.Name) > maxName:
		return fmt.Errorf("pod name %q", s.Name)
	case len(s.Addresses) > maxAddresses:
		return fmt.Errorf("%d addresses, %d are allowed", len(s.Addresses), maxAddresses)
	}
	for _, a := range s.Addresses {
		if !a.IsValid() || a.Is4In6() {
			return fmt.Errorf("address %q", a)
		}
	}
	return nil
}
