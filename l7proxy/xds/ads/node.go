package ads

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// Node is whose view of the mesh is asked for. All that has not been said is left out:
// istiod finds the labels and the zone of a pod that it knows by itself, and takes Labels
// and Locality for one that it does not know.
type Node struct {
	ID       string            // sidecar~IP~POD.NAMESPACE~NAMESPACE.svc.DOMAIN
	Cluster  string            // CLUSTER_ID; only needed in a mesh of several clusters, and wrong worse than none
	Labels   map[string]string // of the pod
	Locality string            // region/zone/subzone, or its first parts
}

// namespace reads that of the ID, and checks the rest of it. istiod refuses what has not four parts or no address; a view without
// a namespace would lack what is private to it.
func (n *Node) namespace() (string, error) {
	parts := strings.Split(n.ID, "~")
	if len(parts) != 4 || parts[0] != "sidecar" {
		return "", fmt.Errorf("node id %q is not sidecar~IP~POD.NAMESPACE~NAMESPACE.svc.DOMAIN", n.ID)
	}
	if _, err := netip.ParseAddr(parts[1]); err != nil {
		return "", fmt.Errorf("read address of node id %q: %w", n.ID, err)
	}
	dot := strings.LastIndexByte(parts[2], '.') // names of pods may have dots, namespaces do not
	if dot <= 0 || dot == len(parts[2])-1 {
		return "", fmt.Errorf("node id %q: %q is not POD.NAMESPACE", n.ID, parts[2])
	}
	namespace := parts[2][dot+1:]
	if domain := parts[3]; domain != "" && domain != namespace && !strings.HasPrefix(domain, namespace+".") {
		return "", fmt.Errorf("node id %q: the domain %q is another namespace's than %q", n.ID, domain, parts[2])
	}
	return namespace, nil
}

// message is the node as it is sent. DNS_CAPTURE has istiod give each ServiceEntry without
// an address one of its own, instead of a listener that they all share.
func (n *Node) message() (*corev3.Node, error) {
	namespace, err := n.namespace()
	if err != nil {
		return nil, err
	}
	said := map[string]any{"NAMESPACE": namespace, "DNS_CAPTURE": "true"}
	if n.Cluster != "" {
		said["CLUSTER_ID"] = n.Cluster
	}
	if len(n.Labels) > 0 {
		labels := make(map[string]any, len(n.Labels))
		for k, v := range n.Labels {
			labels[k] = v
		}
		said["LABELS"] = labels
	}
	metadata, err := structpb.NewStruct(said)
	if err != nil {
		return nil, fmt.Errorf("make metadata of the node: %w", err)
	}
	m := &corev3.Node{Id: n.ID, Metadata: metadata, UserAgentName: "dubway"}
	if n.Locality != "" {
		parts := strings.Split(n.Locality, "/")
		if len(parts) > 3 {
			return nil, errors.New("locality is not region/zone/subzone: " + n.Locality)
		}
		parts = append(parts, "", "")
		m.Locality = &corev3.Locality{Region: parts[0], Zone: parts[1], SubZone: parts[2]}
	}
	return m, nil
}
