package main

import (
	"slices"
	"strings"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/bench/services"
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
	second string // of every other connection
}

// lead notes the ways of all paths.
func (r *rig) lead(direct, second string) {
	r.ways = map[string]way{
		"direct": {pod: r.plain, target: direct}, twoPath: {r.plain, direct, second},
		"relay": {pod: r.plain, target: "127.0.0.1:19000"}, "relay2": {pod: r.plain, target: "127.0.0.1:19001"},
		"proxy": {pod: r.pod, target: services.Near}, "proxy2": {pod: r.pod, target: services.Far}, "unsteered": {pod: r.pod, target: direct},
		"proxy+policy": {pod: r.pod, target: services.Policies}, "proxy+attachment": {pod: r.pod, target: services.Attachment}, "proxy+observe": {pod: r.observed, target: services.Every},
		"proxy2+mtls": {pod: r.pod, target: services.Mutual},
		"lane":        {pod: r.laned, target: services.Near}, "lane/2": {pod: r.laned, target: services.Both}, besidePath: {pod: r.laned, target: services.Apart},
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
