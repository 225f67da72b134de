package plugin

import (
	"encoding/json"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	cniversion "github.com/containernetworking/cni/pkg/version"

	"github.com/dubway/dubway/cni/entry"
	"github.com/dubway/dubway/cni/wire"
)

// call is what the runtime said at one verb.
type call struct {
	types.PluginConf

	entry     *entry.Entry
	addresses []netip.Addr
	previous  types.Result
	listed    bool // the runtime named the attachments that it knows

	namespace, name, uid string // of the pod; "" outside Kubernetes
}

// parse reads configuration and arguments.
func parse(args *skel.CmdArgs) (*call, error) {
	c := &call{}
	if err := json.Unmarshal(args.StdinData, &c.PluginConf); err != nil {
		return nil, failure(types.ErrDecodingFailure, "dubway: parse configuration", err.Error())
	}
	e, err := entry.Parse(args.StdinData)
	if err != nil {
		return nil, failure(types.ErrInvalidNetworkConfig, "dubway: "+err.Error(), "")
	}
	c.entry = e
	var gc struct {
		Attachments json.RawMessage `json:"cni.dev/valid-attachments"` //nolint:tagliatelle // the specification's
	}
	// libcni writes null when there are none.
	c.listed = json.Unmarshal(args.StdinData, &gc) == nil && len(gc.Attachments) > 0
	// By hand: types.LoadArgs fails on arguments that it does not know, and every runtime
	// has some.
	for pair := range strings.SplitSeq(args.Args, ";") {
		switch key, value, _ := strings.Cut(pair, "="); key {
		case "K8S_POD_NAMESPACE":
			c.namespace = value
		case "K8S_POD_NAME":
			c.name = value
		case "K8S_POD_UID":
			c.uid = value
		}
	}
	return c, nil
}

// readPrevious reads what the plugins before us made.
func (c *call) readPrevious() error {
	if err := cniversion.ParsePrevResult(&c.PluginConf); err != nil {
		return failure(types.ErrDecodingFailure, "dubway: parse prevResult", err.Error())
	}
	if c.PrevResult == nil {
		return failure(types.ErrInvalidNetworkConfig,
			"dubway: there is no prevResult: "+entry.Type+" must come after the plugin that makes the pod's network", "")
	}
	result, err := current.NewResultFromResult(c.PrevResult)
	if err != nil {
		return failure(types.ErrDecodingFailure, "dubway: parse prevResult", err.Error())
	}
	c.previous = c.PrevResult
	for _, ip := range result.IPs {
		// An address of the node's end of the link is not the pod's.
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(result.Interfaces) && result.Interfaces[*i].Sandbox == "" {
			continue
		}
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			c.addresses = append(c.addresses, a.Unmap())
		}
	}
	return nil
}

// asks tells whether the agent has a say. What the kubelet did not start is no pod, and
// pods of exempt namespaces must start without the agent.
func (c *call) asks() bool {
	return c.namespace != "" && c.name != "" && !c.entry.Exempts(c.namespace)
}

// pod is the pod's name for people.
func (c *call) pod() string { return c.namespace + "/" + c.name }

// sandbox is what the agent is told.
func (c *call) sandbox(args *skel.CmdArgs) *wire.Sandbox {
	return &wire.Sandbox{ContainerID: args.ContainerID, UID: c.uid, Namespace: c.namespace, Name: c.name, Addresses: c.addresses}
}

// attached lists the containers that the runtime knows, each once, and whether it named
// them at all: to take silence for "none" would forget every pod.
func (c *call) attached() (containers []string, known bool) {
	seen := make(map[string]bool, len(c.ValidAttachments))
	for _, a := range c.ValidAttachments {
		if !seen[a.ContainerID] {
			seen[a.ContainerID] = true
			containers = append(containers, a.ContainerID)
		}
	}
	return containers, c.listed
}

// failure is an error in the specification's form.
func failure(code uint, message, details string) error {
	return &types.Error{Code: code, Msg: message, Details: details}
}
