package main

import (
	"slices"
	"strings"

	"github.com/dubway/dubway/internal/testnet"
)

// The addresses that are dialled through the mesh.
const (
	vip           = "198.51.100.1:20880" // leads to the provider of the same node
	vipFar        = "198.51.100.2:20880" // leads to the provider of the other node
	vipPolicies   = "198.51.100.3:20880" // as vip, with a time limit, retries, and access by method
	vipAttachment = "198.51.100.4:20880" // that, and routes by an attachment
	vipEvery      = "198.51.100.5:20880" // as vipPolicies, with a limit besides
	vipMutual     = "198.51.100.6:20880" // as vipFar, by mutual TLS
	vipBoth       = "198.51.100.7:20880" // leads to two providers of the same node
	vipApart      = "198.51.100.8:20880" // leads to one of the same node that has no lanes
	vipJava       = "198.51.100.9:20880" // leads to one of the same node in Java
)

var (
	// paths are what is compared with direct.
	paths = []string{"relay", "relay2", "proxy", "proxy2", "unsteered"} //nolint:gochecknoglobals // a table
	// policyPaths are those with policies, in one hop, or with mutual TLS, in two. They are
	// compared with direct and, without what is behind the +, with proxy or proxy2, at
	// policyBytes alone. Of proxy+observe the workload is only observed: every filter is
	// asked, and no byte changes.
	policyPaths = []string{"proxy+policy", "proxy+attachment", "proxy+observe", "proxy2+mtls"} //nolint:gochecknoglobals // a table
)

// policyBytes is the size at which policies are measured: what they cost does not
// depend on it.
const policyBytes = 1024

// way is how a path is gone: who calls, and what he dials.
type way struct {
	pod    *testnet.Pod
	target string
}

// lead notes the ways of all paths.
func (r *rig) lead(direct string) {
	r.ways = map[string]way{
		"direct": {r.plain, direct}, "relay": {r.plain, "127.0.0.1:19000"}, "relay2": {r.plain, "127.0.0.1:19001"},
		"proxy": {r.pod, vip}, "proxy2": {r.pod, vipFar}, "unsteered": {r.pod, direct},
		"proxy+policy": {r.pod, vipPolicies}, "proxy+attachment": {r.pod, vipAttachment}, "proxy+observe": {r.observed, vipEvery},
		"proxy2+mtls": {r.pod, vipMutual},
		"lane":        {r.laned, vip}, "lane/2": {r.laned, vipBoth}, "proxy+lane": {r.laned, vipApart},
	}
}

// without is the path that one with policies is compared with.
func without(path string) string {
	plain, _, _ := strings.Cut(path, "+")
	return plain
}

// at returns those of the paths that are measured with a size.
func at(bytes int, paths []string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(path string) bool {
		return bytes != policyBytes && slices.Contains(policyPaths, path)
	})
}
