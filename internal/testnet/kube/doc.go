// Package kube holds the scenarios of an agent that takes its pods from a real API server:
// which are wanted, where they are found, what is reported on them, and what happens while
// the API server is away. Pods are processes in namespaces and cgroups of a node of package
// testnet, told to the API with the names, addresses and phases that a kubelet would tell.
//
// Its tests have the build tag e2e; `make e2e-kube` runs them.
package kube
