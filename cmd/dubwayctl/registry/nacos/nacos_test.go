package nacos

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/dubway/dubway/cmd/dubwayctl/registry"
)

// hosts are the instances of services, as the open API tells them.
var hosts = map[string]string{
	"providers:a.B:1.0.0:blue": `[{"ip":"10.0.0.1","port":20880,"enabled":true,"metadata":{"protocol":"dubbo","application":"orders"}},
		{"ip":"10.0.0.2","port":20880,"enabled":false,"metadata":{"protocol":"dubbo"}},
		{"ip":"10.0.0.3","port":8080,"enabled":true,"metadata":{"protocol":"rest"}}]`,
	"providers:a.C::": `[{"ip":"10.0.0.1","port":20880,"enabled":true,"metadata":{"protocol":"dubbo","application":"orders"}}]`,
	"consumers:a.B::": `[{"ip":"10.0.0.9","port":0,"enabled":true,"metadata":{"protocol":"consumer"}}]`,
	"stock":           `[{"ip":"10.0.0.4","port":20880,"enabled":true,"metadata":{"dubbo.endpoints":"[{\"port\":20880,\"protocol\":\"dubbo\"}]"}}]`,
	"web":             `[{"ip":"10.0.0.5","port":80,"enabled":true,"metadata":{}}]`,
}

func TestRead(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /nacos/v1/auth/login", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("username") != "me" || r.FormValue("password") != "secret" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, `{"accessToken":"token"}`)
	})
	mux.HandleFunc("GET /nacos/v1/ns/service/list", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("groupName") != "DUBBO" || r.FormValue("namespaceId") != "prod" || r.FormValue("accessToken") != "token" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		// Two pages, whatever was asked.
		names := map[string]string{"1": `["providers:a.B:1.0.0:blue","consumers:a.B::","web"]`, "2": `["providers:a.C::","stock"]`}[r.FormValue("pageNo")]
		fmt.Fprintf(w, `{"count":5,"doms":%s}`, names)
	})
	mux.HandleFunc("GET /nacos/v1/ns/instance/list", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"hosts":%s}`, hosts[r.FormValue("serviceName")])
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	at, err := url.Parse("nacos://me:secret@" + strings.TrimPrefix(server.URL, "http://") + "?namespace=prod&group=DUBBO")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(t.Context(), at)
	want := []registry.Provider{
		{Host: "10.0.0.1", Port: 20880, Application: "orders", Interfaces: []string{"a.B", "a.C"}},
		{Host: "10.0.0.4", Port: 20880, Application: "stock"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	at.User = url.UserPassword("me", "wrong")
	if _, err := Read(t.Context(), at); err == nil || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with a wrong password: %v", err)
	}
	at.User = nil
	if _, err := Read(t.Context(), at); err == nil || !strings.Contains(err.Error(), "does it want a user") {
		t.Errorf("without a user: %v", err)
	}
}
