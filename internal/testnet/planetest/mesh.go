// Package planetest is a control plane that speaks as istiod does, of a mesh that is as
// large as somebody wants it: one recorded service under many names.
package planetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/xds/files"
)

// The types that a control plane is asked for.
const (
	cluster  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	endpoint = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	listener = "type.googleapis.com/envoy.config.listener.v3.Listener"
	route    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// PerService is the endpoints of each service.
const PerService = 5

// recorded is the service that istiod sent, and its address; inbound what its provider was
// sent.
const (
	recorded = "plain-name-dubbo"
	inbound  = recorded + ".provider"
	name     = "provider"
	address  = "198.19.0.20"
)

// Mesh is the resources of services, by type and name. Nobody changes one that is served.
type Mesh struct {
	held    map[string]map[string]*anypb.Any
	inbound []byte // of a pod, in JSON
	single  []byte // the endpoints of a service, in JSON
}

// Read makes a mesh of so many services out of what was recorded in dir.
func Read(dir string, services int) (*Mesh, error) {
	m := &Mesh{held: make(map[string]map[string]*anypb.Any)}
	for _, file := range []string{"clusters", "endpoints", "listeners", "routes"} {
		text, err := os.ReadFile(filepath.Join(dir, recorded, file+".json"))
		if err != nil {
			return nil, fmt.Errorf("read recorded service: %w", err)
		}
		if file == "endpoints" {
			if m.single, text, err = several(text); err != nil {
				return nil, err
			}
		}
		if err := m.add(text, services); err != nil {
			return nil, fmt.Errorf("make %s: %w", file, err)
		}
	}
	var err error
	if m.inbound, err = os.ReadFile(filepath.Join(dir, inbound, "listeners.json")); err != nil {
		return nil, fmt.Errorf("read recorded provider: %w", err)
	}
	return m, nil
}

// add adds what was recorded: what names the service once for each, the rest as it is.
func (m *Mesh) add(text []byte, services int) error {
	all, err := parse(text)
	if err != nil {
		return err
	}
	for _, one := range all {
		held := m.held[one.typ]
		if held == nil {
			held = make(map[string]*anypb.Any)
			m.held[one.typ] = held
		}
		if !strings.Contains(one.name, "20880") {
			held[one.name] = one.body
			continue
		}
		for i := range services {
			as := edit(i)
			body := &anypb.Any{TypeUrl: one.typ, Value: []byte(as.Replace(string(one.body.GetValue())))}
			held[as.Replace(one.name)] = body
		}
	}
	return nil
}

// edit makes of the recorded service the one at an index. What it replaces is as long as
// what it puts there, so that no length in a message changes.
func edit(index int) *strings.Replacer {
	pairs := []string{name, fmt.Sprintf("s%07d", index), address, VIP(index).Addr().String()}
	for i := range PerService {
		at := index*PerService + i
		pairs = append(pairs, placeholder(i), fmt.Sprintf("10.1%02d.1%02d.1%02d", at/10_000, at/100%100, at%100))
	}
	return strings.NewReplacer(pairs...)
}

// VIP is the address of the service at an index.
func VIP(index int) netip.AddrPort {
	a := netip.AddrFrom4([4]byte{byte(150 + index/900), 19, byte(index / 90 % 10), byte(10 + index%90)})
	return netip.AddrPortFrom(a, 20880)
}

func placeholder(i int) string { return fmt.Sprintf("10.199.199.10%d", i) }

// several makes of the recorded endpoints those of a service with one, and PerService of
// them, spread over the zones as they were.
func several(text []byte) (single, all []byte, err error) {
	var list []map[string]any
	if err := json.Unmarshal(text, &list); err != nil || len(list) != 1 {
		return nil, nil, fmt.Errorf("read recorded endpoints: %d resources, want 1: %w", len(list), err)
	}
	groups, _ := list[0]["endpoints"].([]any)
	if len(groups) == 0 {
		return nil, nil, errors.New("read recorded endpoints: none")
	}
	for i := range PerService {
		group, _ := groups[i%len(groups)].(map[string]any)
		them, _ := group["lbEndpoints"].([]any)
		if i < len(groups) {
			them = them[:1:1]
		}
		one, err := located(them[0], placeholder(i))
		if err != nil {
			return nil, nil, err
		}
		if i < len(groups) {
			group["lbEndpoints"] = []any{one}
		} else {
			group["lbEndpoints"] = append(them, one)
		}
	}
	if all, err = json.Marshal(list); err != nil {
		return nil, nil, fmt.Errorf("write endpoints: %w", err)
	}
	first, _ := groups[0].(map[string]any)
	them, _ := first["lbEndpoints"].([]any)
	first["lbEndpoints"], list[0]["endpoints"] = them[:1], groups[:1]
	if single, err = json.Marshal(list); err != nil {
		return nil, nil, fmt.Errorf("write endpoints: %w", err)
	}
	return single, all, nil
}

// located copies an endpoint with another address.
func located(e any, address string) (any, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("write endpoint: %w", err)
	}
	var made struct {
		Endpoint struct {
			Address struct {
				SocketAddress struct {
					Address   string      `json:"address"`
					PortValue json.Number `json:"portValue"`
				} `json:"socketAddress"`
			} `json:"address"`
		} `json:"endpoint"`
		HealthStatus        string         `json:"healthStatus"`
		Metadata            map[string]any `json:"metadata"`
		LoadBalancingWeight json.Number    `json:"loadBalancingWeight"`
	}
	if err := json.Unmarshal(text, &made); err != nil {
		return nil, fmt.Errorf("read endpoint: %w", err)
	}
	made.Endpoint.Address.SocketAddress.Address = address
	return made, nil
}

// Endpoint is the endpoints of the service at an index, when it has only one.
func (m *Mesh) Endpoint(index int, at netip.AddrPort) (Resource, error) {
	text := bytes.ReplaceAll(m.single, []byte(placeholder(0)), []byte(at.Addr().String()))
	text = bytes.ReplaceAll(text, []byte(`"portValue":20880`), fmt.Appendf(nil, `"portValue":%d`, at.Port()))
	text = bytes.ReplaceAll(text, []byte(name), fmt.Appendf(nil, "s%07d", index))
	all, err := parse(text)
	if err != nil {
		return Resource{}, err
	}
	return all[0], nil
}

// own is the listeners that a pod of a service account is sent beside everybody's.
func (m *Mesh) own(account string) ([]Resource, error) {
	all, err := parse(bytes.ReplaceAll(m.inbound, []byte(name), []byte(account)))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(r Resource) bool { return r.name != "virtualInbound" }), nil
}

// Resource is one resource as a control plane sends it.
type Resource struct {
	typ, name string
	body      *anypb.Any
}

// parse reads resources in JSON.
func parse(text []byte) ([]Resource, error) {
	list, err := files.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse resources: %w", err)
	}
	all := make([]Resource, 0, len(list))
	for i := range list {
		r := &list[i]
		if len(r.Problems) > 0 {
			return nil, fmt.Errorf("parse %s %s: %s", r.Kind, r.Name, r.Problems[0].Reason)
		}
		body, err := anypb.New(r.Message)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", r.Name, err)
		}
		all = append(all, Resource{r.Type, r.Name, body})
	}
	return all, nil
}
