package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dubway/dubway/internal/admin"
)

// Selector is how the pods of Dubway's DaemonSet are known.
const Selector = "app.kubernetes.io/name=dubway"

// atOnce is how many nodes are asked at a time: each is a process of kubectl.
const atOnce = 8

// pod is what of a pod matters here.
type pod struct {
	Metadata struct {
		Name              string `json:"name"`
		DeletionTimestamp string `json:"deletionTimestamp"`
		CreationTimestamp string `json:"creationTimestamp"`
	} `json:"metadata"`
	Spec struct {
		NodeName   string `json:"nodeName"`
		Containers []struct {
			Name string `json:"name"`
		} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase      string `json:"phase"`
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"status"`
}

// rank says how fit a pod is to answer, the least first: in an upgrade a node has two.
func (p *pod) rank() int {
	ready := slices.ContainsFunc(p.Status.Conditions, func(c struct {
		Type   string `json:"type"`
		Status string `json:"status"`
	},
	) bool {
		return c.Type == "Ready" && c.Status == "True"
	})
	switch {
	case p.Status.Phase == "Running" && ready && p.Metadata.DeletionTimestamp == "":
		return 0
	case p.Status.Phase == "Running":
		return 1
	}
	return 2
}

// agents lists Dubway's pods, of a node or of all, the fittest of each node first. Hooks and
// jobs of the same installation have no proxy and are none.
func (t *target) agents(ctx context.Context, node string) ([]pod, error) {
	args := []string{"get", "pods", "-n", t.Cluster.MeshNamespace, "-l", Selector, "-o", "json"}
	if node != "" {
		args = append(args, "--field-selector", "spec.nodeName="+node)
	}
	text, err := t.Cluster.Output(ctx, args...)
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []pod `json:"items"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("read pods: %w", err)
	}
	all := slices.DeleteFunc(list.Items, func(p pod) bool {
		proxy := false
		for _, c := range p.Spec.Containers {
			proxy = proxy || c.Name == "proxy"
		}
		return !proxy
	})
	slices.SortStableFunc(all, func(a, b pod) int {
		return cmp.Or(strings.Compare(a.Spec.NodeName, b.Spec.NodeName), cmp.Compare(a.rank(), b.rank()),
			strings.Compare(b.Metadata.CreationTimestamp, a.Metadata.CreationTimestamp))
	})
	return all, nil
}

// agent is Dubway's pod of a node.
func (t *target) agent(ctx context.Context, node string) (string, error) {
	all, err := t.agents(ctx, node)
	if err != nil {
		return "", err
	}
	if len(all) == 0 || all[0].rank() > 1 {
		return "", fmt.Errorf("no running pod with the label %s on node %s in namespace %s: "+
			"is Dubway installed there (--mesh-namespace), and is that the node's name?", Selector, node, t.Cluster.MeshNamespace)
	}
	return all[0].Metadata.Name, nil
}

// nodeOf is the node of any pod.
func (t *target) nodeOf(ctx context.Context, namespace, name string) (string, error) {
	text, err := t.Cluster.Output(ctx, "get", "pod", name, "-n", namespace, "-o", "json")
	if err != nil {
		return "", err
	}
	var p pod
	if err := json.Unmarshal(text, &p); err != nil {
		return "", fmt.Errorf("read pod: %w", err)
	}
	if p.Spec.NodeName == "" {
		return "", fmt.Errorf("pod %s/%s is on no node yet", namespace, name)
	}
	return p.Spec.NodeName, nil
}

// Overview is the document of status --all-nodes.
type Overview struct {
	APIVersion string `json:"apiVersion"`
	Items      []Node `json:"items"`
}

// Node is what one node says. What it does not say is nil, and Error says why.
type Node struct {
	Node   string             `json:"node"`
	Pod    string             `json:"pod"`
	Agent  *admin.AgentStatus `json:"agent"`
	Proxy  *admin.ProxyStatus `json:"proxy"`
	Error  string             `json:"error,omitempty"`
	unwell bool
}

// overview asks all nodes.
func (t *target) overview(ctx context.Context) error {
	all, err := t.agents(ctx, "")
	if err != nil {
		return err
	}
	// The fittest pod of each node.
	all = slices.CompactFunc(all, func(a, b pod) bool { return a.Spec.NodeName == b.Spec.NodeName })
	if len(all) == 0 {
		return fmt.Errorf("no pod with the label %s in namespace %s: is Dubway installed there (--mesh-namespace)?",
			Selector, t.Cluster.MeshNamespace)
	}
	o := Overview{APIVersion: admin.APIVersion, Items: make([]Node, len(all))}
	var asked sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range all {
		slots <- struct{}{}
		asked.Go(func() {
			defer func() { <-slots }()
			o.Items[i] = t.ask(ctx, &all[i])
		})
	}
	asked.Wait()
	if err := t.Write(&o, o.rows()); err != nil {
		return err
	}
	unwell := 0
	for i := range o.Items {
		if o.Items[i].unwell {
			unwell++
		}
	}
	if unwell > 0 {
		return fmt.Errorf("%d of %d node(s) do not answer in full: see dubwayctl status --node NODE", unwell, len(o.Items))
	}
	return nil
}

// ask asks one node. A status whose command fails may still have told of one process.
func (t *target) ask(ctx context.Context, p *pod) Node {
	n := Node{Node: p.Spec.NodeName, Pod: p.Metadata.Name}
	text, err := t.Cluster.Partial(ctx, t.command(p.Metadata.Name, []string{"status", "--output=json"})...)
	var said struct {
		Agent *admin.AgentStatus `json:"agent"`
		Proxy *admin.ProxyStatus `json:"proxy"`
	}
	if wrong := json.Unmarshal(text, &said); wrong != nil && err == nil {
		err = fmt.Errorf("read its answer: %w", wrong)
	}
	n.Agent, n.Proxy = said.Agent, said.Proxy
	if err != nil {
		n.Error, n.unwell = err.Error(), true
	}
	return n
}

// rows are the overview for people.
func (o *Overview) rows() [][]any {
	rows := [][]any{{"NODE", "POD", "RELEASE", "ENROLLED", "NOT", "CONFIGURATION", "REJECTED", "PROBLEMS"}}
	for i := range o.Items {
		n := &o.Items[i]
		release, enrolled, not, generation, rejected, problems := "", "", "", "", "", 0
		if a := n.Agent; a != nil {
			release = a.Release
			enrolled, not = fmt.Sprint(a.Workloads.Enrolled), fmt.Sprint(a.Workloads.NotEnrolled)
			problems += len(a.Problems)
		}
		if p := n.Proxy; p != nil {
			release = cmp.Or(release, p.Release)
			generation, rejected = fmt.Sprintf("%d from %s", p.Generation, p.Source), fmt.Sprint(len(p.Rejections))
			problems += len(p.Problems)
		}
		said := fmt.Sprint(problems)
		if n.Error != "" {
			said = "ERROR " + n.Error
		}
		rows = append(rows, []any{n.Node, n.Pod, release, enrolled, not, generation, rejected, said})
	}
	return rows
}
