package pods

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

const consumer = `# the shop's front
apiVersion: dubway.io/v1alpha1
kind: Workload
metadata:
  name: consumer
  namespace: shop
  labels: {app: consumer}
spec:
  serviceAccount: default
  netns: /run/netns/consumer
  cgroup: /sys/fs/cgroup/consumer
  addresses: [10.0.0.1, "fd00::1"]
  ports: [20880]
`

func TestParse(t *testing.T) {
	got, err := Parse([]byte("---\n" + consumer))
	if err != nil {
		t.Fatal(err)
	}
	want := &Pod{
		UID: "shop/consumer", Name: "consumer", Namespace: "shop", Labels: map[string]string{"app": "consumer"},
		ServiceAccount: "default", Netns: "/run/netns/consumer", Cgroup: "/sys/fs/cgroup/consumer",
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
		Ports:     []uint16{20880},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	with := strings.Replace(consumer, "  name:", "  uid: 0b5c\n  name:", 1)
	if got, err := Parse([]byte(with)); err != nil || got.UID != "0b5c" {
		t.Errorf("own uid: %+v, %v", got, err)
	}
	mapped := strings.Replace(consumer, "[10.0.0.1,", "['::ffff:10.0.0.1',", 1)
	if got, err := Parse([]byte(mapped)); err != nil || got.Addresses[0] != want.Addresses[0] {
		t.Errorf("mapped address: %+v, %v", got, err)
	}
}

// TestAnnotations: those of the mesh are read, others are let be, whatever they are.
func TestAnnotations(t *testing.T) {
	with := strings.Replace(consumer, "  name:", "  annotations: {dubway.io/mode: observe, other.io/mode: \"a\\nb\", last-applied: "+
		strings.Repeat("x", 1<<18)+"}\n  name:", 1)
	got, err := Parse([]byte(with))
	if want := map[string]string{"dubway.io/mode": "observe"}; err != nil || !reflect.DeepEqual(got.Annotations, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestParseRejects(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown field":     {"  serviceAccount:", "  serviceAcount:", `unknown field "serviceAcount"`},
		"repeated field":    {"  ports:", "  netns: /x\n  ports:", `"netns" already set`},
		"kind":              {"kind: Workload", "kind: Pod", `"Pod"`},
		"apiVersion":        {"dubway.io/v1alpha1", "v1", `"v1"`},
		"no name":           {"  name: consumer\n", "", "metadata.name"},
		"bad namespace":     {"namespace: shop", `namespace: "a b"`, "metadata.namespace"},
		"bad uid":           {"  name:", "  uid: \"a\\nb\"\n  name:", "metadata.uid"},
		"long annotation":   {"  name:", "  annotations: {dubway.io/mode: " + strings.Repeat("x", 1<<10) + "}\n  name:", "metadata.annotations"},
		"annotation":        {"  name:", "  annotations: {dubway.io/mode: \"a\\nb\"}\n  name:", "metadata.annotations"},
		"relative netns":    {"/run/netns/consumer", "netns/consumer", "spec.netns"},
		"no cgroup":         {"  cgroup: /sys/fs/cgroup/consumer\n", "", "spec.cgroup"},
		"no addresses":      {`[10.0.0.1, "fd00::1"]`, "[]", "0 addresses"},
		"not an address":    {"10.0.0.1", "10.0.0.300", "spec.addresses[0]"},
		"loopback":          {"10.0.0.1", "127.0.0.1", "not a pod's address"},
		"link-local":        {"10.0.0.1", "169.254.1.1", "not a pod's address"},
		"multicast":         {"10.0.0.1", "224.0.0.1", "not a pod's address"},
		"unspecified":       {"10.0.0.1", "0.0.0.0", "not a pod's address"},
		"broadcast":         {"10.0.0.1", "255.255.255.255", "not a pod's address"},
		"zone":              {"fd00::1", "fd00::1%eth0", "not a pod's address"},
		"same address":      {"fd00::1", "::ffff:10.0.0.1", "there twice"},
		"port 0":            {"[20880]", "[0]", "spec.ports"},
		"big port":          {"[20880]", "[65536]", "spec.ports"},
		"port as text":      {"[20880]", "[dubbo]", "spec.ports"},
		"second document":   {"  ports: [20880]\n", "  ports: [20880]\n---\nkind: Workload\n", "more than one document"},
		"not yaml":          {"spec:", "spec: [", "yaml"},
		"empty":             {consumer, " \n", "unexpected EOF"},
		"nothing but words": {consumer, "hello\n", "cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(consumer, c.old, c.new, 1)
			if text == consumer {
				t.Fatal("the case changes nothing")
			}
			pod, err := Parse([]byte(text))
			if err == nil {
				t.Fatalf("accepted as %+v", pod)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %q, want one with %q", err, c.want)
			}
		})
	}
}
