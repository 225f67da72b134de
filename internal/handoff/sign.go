package handoff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dubway/dubway/internal/handoff/field"
)

// Sign asks for a certificate of a service account of this node. The key stays with
// the proxy; the agent, which has the right to ask the mesh's authority, names the
// identity itself.
type Sign struct {
	Namespace      string `json:"namespace"`
	ServiceAccount string `json:"serviceAccount"`
	Request        []byte `json:"request"` // PKCS #10, DER
	// Seconds are how long the certificate is to live; 0 leaves it to the authority.
	Seconds int64 `json:"seconds,omitempty"`
}

// SignCode tells the proxy what to do with a refused Sign.
type SignCode string

// The reasons for which there is no certificate.
const (
	SignOff       SignCode = "off"       // the agent knows no authority
	SignDenied    SignCode = "denied"    // no enrolled pod of this node has the account, or the request is no good
	SignExhausted SignCode = "exhausted" // a limit of the agent
	SignFailed    SignCode = "failed"    // the authority refused, or cannot be reached: text in Error
)

// signCodes are all but success.
var signCodes = []SignCode{SignOff, SignDenied, SignExhausted, SignFailed}

// SignResult answers a Sign. On success Code is empty.
type SignResult struct {
	Chain [][]byte `json:"chain,omitempty"` // X.509, DER: the leaf and what is between it and a root
	Roots [][]byte `json:"roots,omitempty"` // X.509, DER: whom the mesh trusts
	Code  SignCode `json:"code,omitempty"`
	Error string   `json:"error,omitempty"`
}

// Limits of what Sign and SignResult hold.
const (
	maxRequest      = 4 << 10 // bytes
	maxCertificate  = 16 << 10
	maxCertificates = 16
	maxValidity     = 10 * 365 * 24 * time.Hour
)

// SignError is a Sign that the agent refused.
type SignError struct {
	Code SignCode
	Text string
}

// Error returns the agent's reason.
func (e *SignError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("sign: %s", e.Code)
	}
	return fmt.Sprintf("sign: %s: %s", e.Code, e.Text)
}

// NewSignResult returns the answer to the Sign of number seq: what was signed, or why
// nothing was. An error that is no *SignError is told as SignFailed, and so is what
// does not fit into a message.
func NewSignResult(seq uint64, signed *SignResult, err error) *Message {
	if err == nil {
		m := &Message{Kind: KindSignResult, Seq: seq, SignResult: signed}
		if _, err = Encode(m); err == nil {
			return m
		}
	}
	r := &SignResult{Code: SignFailed, Error: truncate(err.Error())}
	if s, ok := errors.AsType[*SignError](err); ok {
		r.Code, r.Error = s.Code, truncate(s.Text)
	}
	return &Message{Kind: KindSignResult, Seq: seq, SignResult: r}
}

// Sign asks the agent for a certificate. It returns a *SignError if the agent refused,
// ErrNotConnected if there is none.
func (c *Client) Sign(ctx context.Context, s *Sign) (*SignResult, error) {
	a, err := c.request(ctx, func(conn *Conn, seq uint64) error {
		return conn.Send(&Message{Kind: KindSign, Seq: seq, Sign: s})
	})
	if err != nil {
		return nil, fmt.Errorf("sign for %s/%s: %w", s.Namespace, s.ServiceAccount, err)
	}
	r := a.message.SignResult
	switch {
	case r == nil:
		a.drop()
		return nil, fmt.Errorf("sign for %s/%s: answered with %s", s.Namespace, s.ServiceAccount, a.message.Kind)
	case r.Code != "":
		return nil, &SignError{Code: r.Code, Text: r.Error}
	}
	return r, nil
}

func (s *Sign) validate() error {
	switch {
	case len(s.Request) == 0:
		return errors.New("request is missing")
	case len(s.Request) > maxRequest:
		return fmt.Errorf("request is %d bytes long", len(s.Request))
	case s.Seconds < 0 || s.Seconds > int64(maxValidity/time.Second):
		return fmt.Errorf("%d seconds", s.Seconds)
	}
	return errors.Join(field.Name("namespace", s.Namespace), field.Name("serviceAccount", s.ServiceAccount))
}

func (r *SignResult) validate() error {
	if r.Code != "" {
		return r.validateRefusal()
	}
	if r.Error != "" {
		return errors.New("error without a code")
	}
	return errors.Join(validateCertificates("chain", r.Chain), validateCertificates("roots", r.Roots))
}

func (r *SignResult) validateRefusal() error {
	if len(r.Chain)+len(r.Roots) > 0 {
		return fmt.Errorf("certificates with code %q", r.Code)
	}
	if !slices.Contains(signCodes, r.Code) {
		return fmt.Errorf("unknown code %q", r.Code)
	}
	return field.Text("error", r.Error)
}

func validateCertificates(what string, all [][]byte) error {
	if n := len(all); n == 0 || n > maxCertificates {
		return fmt.Errorf("%d certificates in %s", n, what)
	}
	for _, one := range all {
		if n := len(one); n == 0 || n > maxCertificate {
			return fmt.Errorf("a certificate of %d bytes in %s", n, what)
		}
	}
	return nil
}

// normalise gives an empty list the form of an absent one.
func (r *SignResult) normalise() {
	if len(r.Chain) == 0 {
		r.Chain = nil
	}
	if len(r.Roots) == 0 {
		r.Roots = nil
	}
}
