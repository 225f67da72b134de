package apiserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/dubway/dubway/internal/testnet"
)

// settling is how long a request is repeated that the API server refuses for a reason
// that passes: it is starting, a kind was defined a moment ago, a namespace has no
// accounts yet. The machine may be busy.
const settling = 90 * time.Second

// API is a Kubernetes API server, as its administrator. It knows of the objects what
// their documents say, and nothing of their kinds. Safe for concurrent use.
type API struct {
	base   string // https://ADDRESS:PORT
	client *http.Client
}

// newAPI returns the API server at base, which has the certificate of a file and is asked
// from a pod.
func newAPI(pod *testnet.Pod, base, certificate string) (*API, error) {
	text, err := os.ReadFile(certificate)
	if err != nil {
		return nil, fmt.Errorf("trust API server: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("trust API server: no certificate in %s", certificate)
	}
	return &API{base: base, client: &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			DialContext: pod.DialContext, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		},
	}}, nil
}

// object is what every document says of itself.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`

	json []byte
}

// documents reads the objects of a YAML text.
func documents(text string) ([]object, error) {
	var all []object
	for i, part := range strings.Split("\n"+text, "\n---") {
		var o object
		content, err := yaml.YAMLToJSON([]byte(part))
		if err == nil {
			err = json.Unmarshal(content, &o)
		}
		if err != nil {
			return nil, fmt.Errorf("read document %d: %w", i, err)
		}
		if o.json = content; o.Kind != "" { // else it is a comment
			all = append(all, o)
		}
	}
	return all, nil
}

// path is where the API server has an object: without a namespace, one of the cluster.
func (o *object) path() string {
	group := "/apis/" + o.APIVersion
	if !strings.Contains(o.APIVersion, "/") {
		group = "/api/" + o.APIVersion
	}
	if o.Metadata.Namespace != "" {
		group += "/namespaces/" + o.Metadata.Namespace
	}
	return group + "/" + plural(o.Kind) + "/" + o.Metadata.Name
}

// plural is a kind as paths have it.
func plural(kind string) string {
	switch word := strings.ToLower(kind); {
	case strings.HasSuffix(word, "y"):
		return strings.TrimSuffix(word, "y") + "ies"
	case strings.HasSuffix(word, "s"):
		return word + "es"
	default:
		return word + "s"
	}
}

// Apply makes the objects of a YAML text what the text says, in its order.
func (a *API) Apply(ctx context.Context, text string) error {
	all, err := documents(text)
	for i := 0; err == nil && i < len(all); i++ {
		err = a.settle(ctx, request{
			method: http.MethodPatch, path: all[i].path() + "?fieldManager=e2e&force=true",
			kind: "application/apply-patch+yaml", body: all[i].json,
		})
	}
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return nil
}

// Delete deletes the objects of a YAML text at once, the last one first. What is not
// there is deleted.
func (a *API) Delete(ctx context.Context, text string) error {
	all, err := documents(text)
	for _, o := range slices.Backward(all) {
		err = errors.Join(err, a.settle(ctx, request{method: http.MethodDelete, path: o.path() + "?gracePeriodSeconds=0"}))
	}
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}

// Status changes fields of the status of the one object of a YAML text, as nobody but its
// controller may.
func (a *API) Status(ctx context.Context, text string) error {
	all, err := documents(text)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("%d objects", len(all))
	}
	if err == nil {
		err = a.settle(ctx, request{
			method: http.MethodPatch, path: all[0].path() + "/status",
			kind: "application/merge-patch+json", body: all[0].json,
		})
	}
	if err != nil {
		return fmt.Errorf("change status: %w", err)
	}
	return nil
}

// Get reads the one object that a YAML text names, into what JSON can be read into.
func (a *API) Get(ctx context.Context, text string, into any) error {
	all, err := documents(text)
	if err != nil || len(all) != 1 {
		return fmt.Errorf("get one of %d objects: %w", len(all), err)
	}
	content, err := a.do(ctx, request{method: http.MethodGet, path: all[0].path()})
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("get %s: %w", all[0].path(), err)
	}
	return nil
}

// request is one request to the API server.
type request struct {
	method, path string
	kind         string // of the body
	body         []byte
}

// refusal is an answer that is not the wanted one.
type refusal struct {
	request request
	status  int
	text    string
}

// Error returns what the API server said.
func (r *refusal) Error() string {
	return fmt.Sprintf("%s %s: status %d: %s", r.request.method, r.request.path, r.status, strings.TrimSpace(r.text))
}

// final tells whether asking again would change nothing.
func (r *refusal) final() bool {
	switch r.status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusUnsupportedMediaType, http.StatusMethodNotAllowed:
		return true
	}
	return false
}

// Post sends one JSON body to a path, once, and returns the answer.
func (a *API) Post(ctx context.Context, path string, body []byte) ([]byte, error) {
	return a.do(ctx, request{method: http.MethodPost, kind: "application/json", path: path, body: body})
}

// Read returns what is at a path.
func (a *API) Read(ctx context.Context, path string) ([]byte, error) {
	return a.do(ctx, request{method: http.MethodGet, path: path})
}

// Merge changes what is at a path by a JSON merge patch.
func (a *API) Merge(ctx context.Context, path, patch string) error {
	return a.settle(ctx, request{method: http.MethodPatch, path: path, kind: "application/merge-patch+json", body: []byte(patch)})
}

// End tells the API that an object is about to end: it still is there, for a while.
func (a *API) End(ctx context.Context, text string) error {
	all, err := documents(text)
	for i := 0; err == nil && i < len(all); i++ {
		err = a.settle(ctx, request{method: http.MethodDelete, path: all[i].path() + "?gracePeriodSeconds=600"})
	}
	if err != nil {
		return fmt.Errorf("end: %w", err)
	}
	return nil
}

// settle sends a request until it is granted, or refused for good.
func (a *API) settle(ctx context.Context, r request) error {
	ctx, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	for {
		_, err := a.do(ctx, r)
		var refused *refusal
		said := errors.As(err, &refused)
		if err == nil || said && (refused.final() || r.method == http.MethodDelete && refused.status == http.StatusNotFound) {
			if said && !refused.final() {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// do sends a request once and returns the answer.
func (a *API) do(ctx context.Context, r request) ([]byte, error) {
	sent, err := http.NewRequestWithContext(ctx, r.method, a.base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	sent.Header.Set("Authorization", "Bearer "+token)
	sent.Header.Set("Content-Type", r.kind)
	answer, err := a.client.Do(sent)
	if err != nil {
		return nil, fmt.Errorf("ask API server: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("read answer of API server: %w", err)
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		return nil, &refusal{r, answer.StatusCode, string(text)}
	}
	return text, nil
}
