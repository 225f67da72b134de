package enroll

import "maps"

// depart lets go of a workload that is steered no more. While its pod runs, its network namespace
// stays open: the connections that it has go on through the proxy, and may need others there, to
// a provider that comes later.
func (e *Enroller) depart(w *Workload) {
	w.deafen()
	if w.sameNetns(w.Pod.Netns) != nil {
		_ = w.Netns.Close()
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.departed[w.Pod.UID] = w // enrolled, it was not here
}

// dismiss forgets a pod that departed: it is back, or it has ended.
func (e *Enroller) dismiss(uid string) {
	e.mu.Lock()
	w := e.departed[uid]
	delete(e.departed, uid)
	e.mu.Unlock()
	if w != nil {
		_ = w.Netns.Close()
	}
}

// dismissEnded forgets the departed pods that have ended: their paths name their network
// namespaces no more.
func (e *Enroller) dismissEnded() {
	e.mu.Lock()
	all := maps.Clone(e.departed)
	e.mu.Unlock()
	for uid, w := range all {
		if w.sameNetns(w.Pod.Netns) != nil {
			e.dismiss(uid)
		}
	}
}

// Known returns a pod that is steered, or that was and still runs: sockets are made for both.
// Nil for all others.
func (e *Enroller) Known(uid string) *Workload {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.states[uid]; s != nil && s.workload != nil {
		return s.workload
	}
	return e.departed[uid]
}

// Runs tells whether a pod that is Known runs as a service account.
func (e *Enroller) Runs(namespace, account string) bool {
	runs := func(w *Workload) bool {
		return account != "" && w.Pod.Namespace == namespace && w.Pod.ServiceAccount == account
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.states {
		if s.workload != nil && runs(s.workload) {
			return true
		}
	}
	for _, w := range e.departed {
		if runs(w) {
			return true
		}
	}
	return false
}
