// Package nacos reads the providers that are registered in a Nacos, by its open API (v1), as
// Dubbo writes them: a service providers:INTERFACE:VERSION:GROUP for each interface, and one
// of its own name for each application (Dubbo 3).
package nacos

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/dubway/dubway/cmd/dubwayctl/registry"
)

const (
	defaultPort  = "8848"
	defaultGroup = "DEFAULT_GROUP"
	page         = 500
	// maxAnswer bounds one answer: instances of one service, or names of a page of them.
	maxAnswer = 64 << 20
)

// Read reads what is registered at nacos://[USER:PASSWORD@]HOST:PORT[?namespace=ID&group=GROUP].
func Read(ctx context.Context, at *url.URL) ([]registry.Provider, error) {
	host := at.Host
	if at.Port() == "" {
		host += ":" + defaultPort
	}
	query := at.Query()
	r := &reader{base: "http://" + host + "/nacos/v1", group: cmp.Or(query.Get("group"), defaultGroup), namespace: query.Get("namespace")}
	if password, set := at.User.Password(); set {
		if err := r.login(ctx, at.User.Username(), password); err != nil {
			return nil, err
		}
	}
	names, err := r.services(ctx)
	if err != nil {
		return nil, err
	}
	var all []registry.Provider
	for _, name := range names {
		some, err := r.instances(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return registry.Merge(all), nil
}

// reader reads one Nacos.
type reader struct {
	base, group, namespace, token string
}

// login takes a token for what comes.
func (r *reader) login(ctx context.Context, user, password string) error {
	var answer struct {
		AccessToken string `json:"accessToken"`
	}
	form := url.Values{"username": {user}, "password": {password}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.base+"/auth/login", strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("ask Nacos: %w", err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := do(request, &answer); err != nil {
		return err
	}
	r.token = answer.AccessToken
	return nil
}

// services lists the names of all services of the group.
func (r *reader) services(ctx context.Context) ([]string, error) {
	var all []string
	for n := 1; ; n++ {
		var answer struct {
			Count int      `json:"count"`
			Doms  []string `json:"doms"`
		}
		query := url.Values{"pageNo": {strconv.Itoa(n)}, "pageSize": {strconv.Itoa(page)}}
		if err := r.get(ctx, "/ns/service/list", query, &answer); err != nil {
			return nil, err
		}
		all = append(all, answer.Doms...)
		if len(answer.Doms) == 0 || len(all) >= answer.Count {
			return all, nil
		}
	}
}

// instances reads those of one service. What is switched off is none.
func (r *reader) instances(ctx context.Context, name string) ([]registry.Provider, error) {
	var answer struct {
		Hosts []struct {
			IP       string            `json:"ip"`
			Port     int               `json:"port"`
			Enabled  bool              `json:"enabled"`
			Metadata map[string]string `json:"metadata"`
		} `json:"hosts"`
	}
	// The name of an interface's service: kind, interface, version, group.
	words := strings.Split(name, ":")
	if len(words) > 1 && words[0] != "providers" {
		return nil, nil // consumers, routers and configurators
	}
	if err := r.get(ctx, "/ns/instance/list", url.Values{"serviceName": {name}}, &answer); err != nil {
		return nil, err
	}
	var all []registry.Provider
	for _, h := range answer.Hosts {
		p := registry.Provider{Host: h.IP, Port: h.Port, Application: h.Metadata["application"]}
		switch {
		case !h.Enabled:
			continue
		case len(words) > 1:
			if protocol := h.Metadata["protocol"]; protocol != "" && !registry.Speaks(protocol) {
				continue
			}
			p.Interfaces = []string{words[1]}
			all = append(all, p)
		default: // an application's instance, or something that is not Dubbo's
			p.Application = name
			for _, p.Port = range registry.Endpoints(h.Metadata["dubbo.endpoints"]) {
				all = append(all, p)
			}
		}
	}
	return all, nil
}

// get asks about the group.
func (r *reader) get(ctx context.Context, path string, query url.Values, answer any) error {
	query.Set("groupName", r.group)
	if r.namespace != "" {
		query.Set("namespaceId", r.namespace)
	}
	if r.token != "" {
		query.Set("accessToken", r.token)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+path+"?"+query.Encode(), nil)
	if err != nil {
		return fmt.Errorf("ask Nacos: %w", err)
	}
	return do(request, answer)
}

// do asks, and reads the answer. The query, which may hold a token, is in no error.
func do(request *http.Request, answer any) error {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		if e, ok := err.(*url.Error); ok { //nolint:errorlint // it is what the client returns
			err = e.Err
		}
		return fmt.Errorf("ask Nacos at %s: %w: is it reachable from here, perhaps by kubectl port-forward?", request.URL.Host, err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch {
	case err != nil:
		return fmt.Errorf("ask Nacos at %s: %w", request.URL.Host, err)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("ask Nacos: %s answers %s: does it want a user (nacos://USER:PASSWORD@...), or has it the v1 API no more?",
			request.URL.Path, response.Status)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("read Nacos' answer of %s: %w", request.URL.Path, err)
	}
	return nil
}
