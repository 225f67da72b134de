package zookeeper

import (
	"net/url"
	"reflect"
	"testing"

	"github.com/dubway/dubway/cmd/dubwayctl/registry"
)

// What real ones write is read in internal/testnet/peers.

func TestProvider(t *testing.T) {
	tests := []struct {
		url  string
		want registry.Provider
		ok   bool
	}{
		{"dubbo://10.0.0.1:20880/a.B?application=orders&group=blue&version=1.2.0", registry.Provider{Host: "10.0.0.1", Port: 20880, Application: "orders", Interfaces: []string{"a.B"}}, true},
		{"tri://[fd00::1]:50051/a.B", registry.Provider{Host: "fd00::1", Port: 50051, Interfaces: []string{"a.B"}}, true},
		{"rest://10.0.0.1:8080/a.B", registry.Provider{}, false},
		{"empty://0.0.0.0/a.B?category=providers", registry.Provider{}, false},
		{"dubbo://10.0.0.1/a.B", registry.Provider{}, false},
		{"dubbo://%zz", registry.Provider{}, false},
	}
	for _, test := range tests {
		got, ok := provider(url.QueryEscape(test.url), "a.B")
		if ok != test.ok || ok && !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s is %+v, %v", test.url, got, ok)
		}
	}
}

func TestInstance(t *testing.T) {
	of := []string{"a.B"}
	tests := []struct {
		text string
		want []registry.Provider
	}{
		{
			`{"address":"10.0.0.1","port":20880,"payload":{"metadata":{"dubbo.endpoints":"[{\"port\":20880,\"protocol\":\"dubbo\"},{\"port\":8080,\"protocol\":\"rest\"}]"}}}`,
			[]registry.Provider{{Host: "10.0.0.1", Port: 20880, Application: "orders", Interfaces: of}},
		},
		{`{"address":"10.0.0.1","port":20880,"payload":{}}`, []registry.Provider{{Host: "10.0.0.1", Port: 20880, Application: "orders", Interfaces: of}}},
		{`{"address":"10.0.0.1","port":8080,"payload":{"metadata":{"dubbo.endpoints":"[{\"port\":8080,\"protocol\":\"rest\"}]"}}}`, nil},
		{`{}`, nil},
		{`10.0.0.1`, nil},
	}
	for _, test := range tests {
		if got := instance(test.text, "orders", of); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s is %+v, want %+v", test.text, got, test.want)
		}
	}
}
