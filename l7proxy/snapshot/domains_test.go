package snapshot_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

func domainTable() *snapshot.RouteConfig {
	rc := &snapshot.RouteConfig{}
	for _, d := range []string{"a.example", "Com.X.Service", strings.Repeat("long.", 30) + "example", "*.shop", "*.deep.shop", "com.*", "*"} {
		rc.VirtualHosts = append(rc.VirtualHosts, &snapshot.VirtualHost{Name: d, Domains: []string{d}})
	}
	return rc
}

func TestVirtualHost(t *testing.T) {
	rc := domainTable()
	long := strings.Repeat("long.", 30) + "example"
	for _, tt := range []struct {
		names []string
		want  string
	}{
		{nil, "*"},
		{[]string{""}, "*"},
		{[]string{"b.example", "A.Example"}, "a.example"},
		{[]string{"com.x.service", "a.example"}, "Com.X.Service"},
		{[]string{strings.ToUpper(long)}, long},
		{[]string{"x.shop"}, "*.shop"},
		{[]string{"x.shop", "y.Deep.Shop"}, "*.deep.shop"},
		{[]string{".shop"}, "*"}, // a star stands for something
		{[]string{"com.y", "z.shop"}, "*.shop"},
		{[]string{"COM.y"}, "com.*"},
	} {
		if vh := rc.VirtualHost(tt.names...); vh == nil || vh.Name != tt.want {
			t.Errorf("%q: %v, want %s", tt.names, vh, tt.want)
		}
	}
	if vh := (&snapshot.RouteConfig{}).VirtualHost("a"); vh != nil {
		t.Errorf("a configuration without hosts has %v", vh)
	}
}

func TestVirtualHostDoesNotAllocate(t *testing.T) {
	rc := domainTable()
	for _, name := range []string{"a.example", "org.Shop.Service", "Y.DEEP.SHOP", "198.19.0.20:20880"} {
		if n := testing.AllocsPerRun(100, func() { rc.VirtualHost(name, "other") }); n != 0 {
			t.Errorf("looking up %s allocates %v times", name, n)
		}
	}
}

// The index is made once, whoever asks first.
func TestVirtualHostConcurrently(t *testing.T) {
	rc := domainTable()
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			if vh := rc.VirtualHost("a.example"); vh == nil || vh.Name != "a.example" {
				t.Errorf("found %v", vh)
			}
		})
	}
	work.Wait()
}
