package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// api is a client of a server that answers as f does.
func api(t *testing.T, f http.HandlerFunc) *API {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	config := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}],
users: [{name: a, user: {token: t}}], clusters: [{name: a, cluster: {server: %q}}]}`, server.URL)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := New(Options{Kubeconfig: file, Node: "n1", Own: Ref{"mesh", "agent", ""}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func write(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprint(w, text)
}

const unknown = `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}`

// TestFind: a pod that the API server does not know yet, or knows another one of, is asked
// for again.
func TestFind(t *testing.T) {
	answers := []string{
		"", `{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "namespace": "shop", "uid": "old"}}`,
		`{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "namespace": "shop", "uid": "new"}, "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 20880}]}]}}`,
	}
	var mu sync.Mutex
	a := api(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case r.URL.Path == "/api/v1/namespaces/shop":
			write(w, 200, `{"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "shop", "labels": {"dubway.io/mesh": "enabled"}}}`)
		case r.URL.Path != "/api/v1/namespaces/shop/pods/a" || len(answers) == 0:
			t.Errorf("asked for %s", r.URL)
		case answers[0] == "":
			write(w, 404, unknown)
			answers = answers[1:]
		default:
			write(w, 200, answers[0])
			answers = answers[1:]
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	e, err := a.Find(ctx, Ref{"shop", "a", "new"})
	if err != nil || !e.Wanted || e.Pod.UID != "new" || len(e.Pod.Ports) != 1 {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestFindEnds: the runtime's deadline ends it, with the last reason.
func TestFindEnds(t *testing.T) {
	a := api(t, func(w http.ResponseWriter, _ *http.Request) { write(w, 404, unknown) })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := a.Find(ctx, Ref{"shop", "a", "new"}); err == nil || !strings.Contains(err.Error(), "find pod shop/a") {
		t.Errorf("an unknown pod: %v", err)
	}
}

// TestGuarded: only a refusal by an admission policy says that there is one.
func TestGuarded(t *testing.T) {
	refuse := func(reason, message string) string {
		return fmt.Sprintf(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": %q, "message": %q, "code": 403}`, reason, message)
	}
	for name, c := range map[string]struct {
		status int
		answer string
		want   string // "" for guarded
	}{
		"refused by policy": {422, refuse("Invalid", "pods \"agent\" is forbidden: ValidatingAdmissionPolicy 'dubway' with binding 'dubway' denied request: no"), ""},
		"let in":            {200, `{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "agent"}}`, "no admission policy"},
		"refused by RBAC":   {403, refuse("Forbidden", "cannot patch resource pods"), "ClusterRole"},
		"broken":            {500, refuse("InternalError", "etcd"), "cannot be asked"},
	} {
		t.Run(name, func(t *testing.T) {
			a := api(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPatch || r.URL.Query().Get("dryRun") != "All" || r.URL.Path != "/api/v1/namespaces/mesh/pods/agent" {
					t.Errorf("%s %s has an effect", r.Method, r.URL)
				}
				write(w, c.status, c.answer)
			})
			err := a.Guarded(t.Context())
			if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "not labelled")) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
