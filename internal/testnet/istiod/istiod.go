// Package istiod is a real control plane for a node of package testnet: etcd,
// kube-apiserver, the controllers of kube-controller-manager that Services need, and
// istiod, as real processes in a pod of the node. There is no kubelet and no scheduler:
// pods of the node are told to the API with the addresses that they have (Publish).
//
// The binaries, and the definitions of Istio's and the Gateway API's kinds, come from the
// folders that `make e2e-istiod` builds; etcd is Debian's. What is made ends with the node.
//
//	the node's pod "control"
//	    (see package apiserver)
//	    POD:15010, POD:15012     istiod, plain and TLS; 127.0.0.1:8080 says whether it is ready
//
// The tests of this package have the build tag e2e: `make test` does not need what takes
// half an hour to build.
package istiod

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/apiserver"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// Plane is a running control plane. Its methods fail the test; they are for the test's own
// goroutine.
type Plane struct {
	*apiserver.Server

	mesh      *meshtest.Mesh
	discovery *testnet.Process
}

// Start starts a control plane on a mesh's node, with Istio's kinds, the Gateway API's and
// the objects of a YAML text, and waits until istiod is ready. It ends with the node.
func Start(m *meshtest.Mesh, objects string) *Plane {
	m.T.Helper()
	p := &Plane{mesh: m}
	kinds, err := Kinds()
	m.Must(err)
	p.Server = apiserver.Start(m, "endpointslice-controller,serviceaccount-controller,namespace-controller,root-ca-certificate-publisher-controller")
	m.Must(os.WriteFile(p.File("mesh.yaml"), []byte(MeshConfig), 0o600))
	for _, file := range kinds {
		text, err := os.ReadFile(file)
		m.Must(err)
		m.Must(p.API.Apply(m.Ctx, string(text)))
	}
	m.Must(p.API.Apply(m.Ctx, objects))
	p.StartIstiod()
	return p
}

// StartIstiod starts istiod, at first or again, and waits until it is ready.
func (p *Plane) StartIstiod() {
	p.mesh.T.Helper()
	run := Discovery{
		Kubeconfig: p.File("kubeconfig"), MeshConfig: p.File("mesh.yaml"), Serves: p.Pod.Addresses[0].String(), Ready: "127.0.0.1",
		Agents: AgentNamespace + "/" + AgentAccount,
	}
	var err error
	p.discovery, err = p.Pod.Start(testnet.Command{Name: "istiod", Path: Binary(), Args: run.Args(), Env: run.Env()})
	p.mesh.Must(err)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: p.Pod.DialContext, DisableKeepAlives: true}}
	p.Wait(p.discovery, "readiness", func(ctx context.Context) bool {
		ask, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/ready", ReadyPort), http.NoBody)
		if err != nil {
			return false
		}
		answer, err := client.Do(ask)
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// KillIstiod ends istiod as kill -9 does.
func (p *Plane) KillIstiod() {
	p.mesh.T.Helper()
	p.mesh.Must(p.discovery.Kill())
}

// Address is where istiod speaks xDS on a port of it.
func (p *Plane) Address(port uint16) string {
	return net.JoinHostPort(p.Pod.Addresses[0].String(), fmt.Sprint(port))
}
