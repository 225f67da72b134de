package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/catest"
)

// owner fails as a test does, for the authority.
type owner struct{ *rig }

var _ catest.Owner = owner{}

// Helper does nothing. Part of catest.Owner.
func (owner) Helper() {}

// Fatal is told of what cannot happen: the machine has no entropy, or no disk. Part of
// catest.Owner.
func (o owner) Fatal(args ...any) {
	o.Close()
	fmt.Fprintln(os.Stderr, append([]any{"bench: certificate authority:"}, args...)...)
	os.Exit(1)
}

// Cleanup is part of catest.Owner.
func (o owner) Cleanup(f func()) {
	o.cleanups = append(o.cleanups, func() error { f(); return nil })
}

// TempDir is a folder in a folder of its own, both of which others may be let into, as a
// test's are. Part of catest.Owner.
func (o owner) TempDir() string {
	above, err := os.MkdirTemp("", "dubway-bench")
	if err != nil {
		o.Fatal(err)
	}
	o.cleanups = append(o.cleanups, func() error { return os.RemoveAll(above) })
	dir := filepath.Join(above, "ca")
	if err := os.Mkdir(dir, 0o755); err != nil {
		o.Fatal(err)
	}
	return dir
}

// authority has a node's agent find the authority of both nodes, and returns how it is told.
func (r *rig) authority(n *testnet.Node) ([]string, error) {
	if r.ca == nil {
		r.ca = catest.New(owner{r}, false)
	}
	at := n.System().Addr(15012).String()
	l, err := n.System().Listen(at)
	if err != nil {
		return nil, fmt.Errorf("listen for questions about certificates: %w", err)
	}
	r.ca.Serve(l)
	return []string{"--ca-address", at, "--ca-root-file", r.ca.RootFile, "--ca-token-file", r.ca.TokenFile}, nil
}

// proven waits until all accounts have certificates.
func (r *rig) proven(ctx context.Context) error {
	for _, n := range []*testnet.Node{r.near, r.far} {
		for has := false; !has; time.Sleep(50 * time.Millisecond) {
			s, err := n.ProxyStatus(ctx)
			if err != nil {
				return err
			}
			if has = len(s.Identities) > 0; ctx.Err() != nil {
				return errors.New("no certificates")
			}
			for _, one := range s.Identities {
				has = has && one.Expires != nil
			}
		}
	}
	return nil
}
