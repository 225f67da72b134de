package roster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dubway/dubway/agent/pods/kube"
)

// keep writes down what the API server says of the pods in the roster, for an agent that
// is started while the API server is away.
func (r *Roster) keep() {
	if r.opts.Kept == "" {
		return
	}
	entries := []kube.Entry{}
	for _, c := range r.records {
		e := c.entry
		// The runtime says them before the API server does, and nothing is written when that
		// follows: without them nobody would find the pod's network.
		e.Pod.Addresses = c.addresses()
		entries = append(entries, e)
	}
	text, err := json.Marshal(entries) //nolint:musttag // nobody but an agent reads it
	if err == nil {
		aside := filepath.Join(filepath.Dir(r.opts.Kept), "."+filepath.Base(r.opts.Kept)+".new")
		err = errors.Join(os.WriteFile(aside, text, 0o600), os.Rename(aside, r.opts.Kept))
	}
	if err != nil {
		r.opts.Log.Warn("write down which pods there are", "error", err)
	}
}

// remember takes what an earlier agent was told. It is looked for once.
func (r *Roster) remember(why error) {
	if r.recalled || r.opts.Kept == "" {
		return
	}
	r.recalled = true
	entries, err := r.kept()
	if err != nil {
		r.opts.Log.Warn("nothing is known of pods", "error", err)
		return
	}
	r.old = entries
	r.opts.Log.Warn("pods are taken as an earlier agent knew them", "pods", len(entries), "because", why)
}

// kept reads what an earlier agent wrote down; nil if nothing.
func (r *Roster) kept() ([]kube.Entry, error) {
	text, err := os.ReadFile(r.opts.Kept)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which pods there were: %w", err)
	}
	var entries []kube.Entry
	if err := json.Unmarshal(text, &entries); err != nil { //nolint:musttag // the same
		return nil, fmt.Errorf("read which pods there were: %w", err)
	}
	return entries, nil
}
