package registry

import (
	"reflect"
	"testing"
)

func TestMerge(t *testing.T) {
	got := Merge([]Provider{
		{Host: "10.0.0.2", Port: 20880, Interfaces: []string{"b.B"}},
		{Host: "10.0.0.1", Port: 20881, Application: "x"},
		{Host: "10.0.0.2", Port: 20880, Application: "orders", Interfaces: []string{"a.A", "b.B"}},
		{Host: "10.0.0.1", Port: 20880},
	})
	want := []Provider{
		{Host: "10.0.0.1", Port: 20880},
		{Host: "10.0.0.1", Port: 20881, Application: "x"},
		{Host: "10.0.0.2", Port: 20880, Application: "orders", Interfaces: []string{"a.A", "b.B"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestEndpoints(t *testing.T) {
	tests := []struct {
		text string
		want []int
	}{
		{`[{"port":20880,"protocol":"dubbo"},{"port":8080,"protocol":"rest"},{"port":50051,"protocol":"tri"}]`, []int{20880, 50051}},
		{`[]`, nil},
		{``, nil},
		{`{`, nil},
	}
	for _, test := range tests {
		if got := Endpoints(test.text); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s has %v, want %v", test.text, got, test.want)
		}
	}
}

func TestAddress(t *testing.T) {
	for host, want := range map[string]string{"::ffff:10.0.0.1": "10.0.0.1", "fd00::1": "fd00::1", "vm.example": ""} {
		a, ok := (&Provider{Host: host}).Address()
		if ok != (want != "") || ok && a.String() != want {
			t.Errorf("%s is %v, %v", host, a, ok)
		}
	}
}
