package cluster

import (
	"fmt"
	"strings"
)

// conflist is the node's CNI configuration.
func (n *Node) conflist() string {
	networks := n.podNetworks()
	return fmt.Sprintf(`{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "%s",
      "isGateway": true,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "%s"}], [{"subnet": "%s"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
      }
    },
    {
      "type": "portmap",
      "capabilities": {"portMappings": true}
    }
  ]
}
`, podBridge, networks[0], networks[1])
}

// containerdConfig differs from containerd's own in what this machine refuses: the adjusting
// of scores needs a capability that not every root has. No image is pulled.
func (n *Node) containerdConfig() string {
	return fmt.Sprintf(`version = 3
root = '/var/lib/containerd'
state = '/run/containerd'
[grpc]
  address = '%s'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '%s'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  enable_cdi = false
`, ContainerdSocket, pauseImage)
}

// kubeletConfig asks for nothing that is the whole machine's: no evictions for a disk that
// others fill, no sysctls, no scores.
func (n *Node) kubeletConfig() string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://%s
cgroupDriver: cgroupfs
cgroupRoot: /%s
failCgroupV1: false
enforceNodeAllocatable: [pods]
oomScoreAdj: 0
syncFrequency: 10s
maxOpenFiles: 20000
failSwapOn: false
makeIPTablesUtilChains: false
evictionHard: {memory.available: 1Mi, nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%", imagefs.inodesFree: "0%%"}
imageGCHighThresholdPercent: 100
localStorageCapacityIsolation: false
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
resolvConf: ""
serializeImagePulls: false
registerNode: true
crashLoopBackOff: {maxContainerRestartPeriod: 5s}
`, ContainerdSocket, cgroupOf(n.Name))
}

// proxyConfig leaves the sysctls of conntrack, which only the machine's own network has.
func (n *Node) proxyConfig() string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: /etc/kubernetes/kube-proxy.kubeconfig}
hostnameOverride: %s
mode: nftables
detectLocalMode: BridgeInterface
detectLocal: {bridgeInterface: %s}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, n.Name, podBridge)
}

// Tokens of who asks the API server: nobody else reaches it.
const (
	adminToken = "admin"
	proxyToken = "proxy"
)

// token is a kubelet's.
func (n *Node) token() string { return "kubelet-" + n.Name }

// tokens is the API server's list of them.
func (c *Cluster) tokens() string {
	var text strings.Builder
	text.WriteString(adminToken + ",admin,admin,system:masters\n" + proxyToken + ",system:kube-proxy,kube-proxy\n")
	for _, n := range c.Nodes {
		fmt.Fprintf(&text, "%s,system:node:%s,%s,system:nodes\n", n.token(), n.Name, n.Name)
	}
	return text.String()
}

// kubeconfig is one with a token.
func (c *Cluster) kubeconfig(token string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: e2e,
contexts: [{name: e2e, context: {cluster: e2e, user: e2e}}], users: [{name: e2e, user: {token: %s}}],
clusters: [{name: e2e, cluster: {server: "https://%s:6443", certificate-authority: %s}}]}
`, token, apiAddress, c.conf("apiserver.crt"))
}
