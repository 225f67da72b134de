package views

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/dubway/dubway/l7proxy/xds/ads"
)

// Workload is a pod of this node, as far as what it sees of the mesh depends on it.
type Workload struct {
	UID            string
	Name           string
	Namespace      string
	ServiceAccount string
	Labels         map[string]string
	Address        netip.Addr
}

// identifying are the labels that tell one pod from another of its kind, or one revision
// of it: nobody writes rules for them. One that ends in "/" stands for all that begin so.
var identifying = []string{
	"pod-template-hash", "controller-revision-hash", "pod-template-generation",
	"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index",
	"batch.kubernetes.io/", "job-name", "controller-uid",
}

func identifies(label, _ string) bool {
	return slices.ContainsFunc(identifying, func(l string) bool {
		return label == l || strings.HasSuffix(l, "/") && strings.HasPrefix(label, l)
	})
}

// common are the labels that all pods of a kind have.
func (w *Workload) common() map[string]string {
	labels := maps.Clone(w.Labels)
	maps.DeleteFunc(labels, identifies)
	return labels
}

// key is what pods have in common that see the same: their namespace, service account and
// labels. All pods of the node are in its zone.
func key(w *Workload) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s", w.Namespace, w.ServiceAccount)
	labels := w.common()
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, " %s=%s", name, labels[name])
	}
	return b.String()
}

// suffix ends the names of files that views are kept in.
const suffix = ".kept"

// file is the name of the file that a view is kept in.
func file(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16]) + suffix
}

// node is as whom a view is asked for: one of its pods.
func (s *Set) node(w *Workload) ads.Node {
	return ads.Node{
		ID:      fmt.Sprintf("sidecar~%s~%s.%s~%s.svc.%s", w.Address, w.Name, w.Namespace, w.Namespace, s.opts.Domain),
		Cluster: s.opts.Cluster, Labels: w.common(), Locality: s.opts.Locality,
	}
}
