// Package plan holds the command that says, before anything is enrolled, what Dubway would
// do to a namespace: which pods it would steer and which it cannot, what becomes of the
// policy objects, which ports are declared so that policies are lost, what is missing and
// what conflicts. It reads the API by kubectl, or manifests from files, and changes nothing.
package plan

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/cmd/dubwayctl/kubectl"
	"github.com/dubway/dubway/cmd/dubwayctl/manifest"
	"github.com/dubway/dubway/cmd/dubwayctl/plan/policies"
	"github.com/dubway/dubway/internal/admin"
)

// Params are what the command takes from dubwayctl.
type Params struct {
	// Cluster is asked unless files are named.
	Cluster *kubectl.Kubectl
	// Write writes a document, or the rows of its tables; an empty row is a gap.
	Write func(document any, rows [][]any) error
}

// asked is what an operator asked for.
type asked struct {
	namespace, root, mesh, domain string
	from                          []string
	excluded                      []string
	numbers                       []int
	asIs                          bool
}

// Document is what the command answers.
type Document struct {
	APIVersion string             `json:"apiVersion"`
	Namespace  string             `json:"namespace"`
	Summary    Summary            `json:"summary"`
	Pods       []Pod              `json:"pods"`
	Services   []Service          `json:"services"`
	Policies   []policies.Verdict `json:"policies"`
	Conflicts  []Conflict         `json:"conflicts"`
}

// Summary counts.
type Summary struct {
	Steered  int `json:"steered"`  // pods
	Excluded int `json:"excluded"` // pods that cannot be captured
	Outside  int `json:"outside"`  // pods that nobody asked for
	Blocks   int `json:"blocks"`   // findings that block
}

// Pod is what becomes of a pod.
type Pod struct {
	Name   string `json:"name"`
	Node   string `json:"node,omitempty"`
	State  string `json:"state"` // steered, excluded, outside or finished
	By     string `json:"by"`    // who asked, or why nobody did
	Reason string `json:"reason,omitempty"`
	Ports  []int  `json:"ports"` // TCP ports that its containers declare, and its annotation dubway.io/inbound-ports
}

// The states of a pod.
const (
	steered  = "steered"
	excluded = "excluded"
	outside  = "outside"
	finished = "finished"
)

// Service is what a Service's port, or the lack of one, means.
type Service struct {
	Name   string `json:"name"` // of the Service, or of a workload that has none
	Port   int    `json:"port"`
	Named  string `json:"portName,omitempty"`
	Class  string `json:"class"` // package ports; "missing" without a Service
	Dubbo  bool   `json:"dubbo"`
	Says   string `json:"says,omitempty"`
	Fix    string `json:"fix,omitempty"`
	Blocks bool   `json:"blocks,omitempty"`
}

// Conflict is what is in the way beside policies.
type Conflict struct {
	Subject string `json:"subject"`
	Says    string `json:"says"`
	Fix     string `json:"fix,omitempty"`
	Blocks  bool   `json:"blocks,omitempty"`
}

// Command returns the command.
func Command(p *Params) *cobra.Command {
	a := &asked{}
	c := &cobra.Command{
		Use:   "plan -n NAMESPACE",
		Short: "Say what Dubway would do to a namespace before it is enrolled",
		Long: "Say what Dubway would do to a namespace before it is enrolled: which pods would be steered, and which not and\n" +
			"why; which policy objects are honoured, which are lost or refused, field by field; which ports are declared so\n" +
			"that policies are lost; which Services are missing; what conflicts. Each with the command that mends it.\n\n" +
			"It asks the API by the kubectl on the PATH, or reads what kubectl has dumped (--from), and changes nothing.\n" +
			"Fails if something blocks: calls would fail, or a policy would protect nothing any more.",
		Example: "  dubwayctl plan -n shop\n" +
			"  kubectl get pods,services -n shop -o yaml > shop.yaml && dubwayctl plan -n shop --from shop.yaml",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return p.run(c.Context(), a)
		},
	}
	flags := c.Flags()
	flags.StringVarP(&a.namespace, "namespace", "n", "", "the `namespace` that is to be enrolled")
	flags.StringSliceVar(&a.from, "from", nil, "files or directories of manifests, in place of the cluster")
	flags.StringVar(&a.root, "root-namespace", "istio-system", "Istio's root namespace")
	flags.StringVar(&a.domain, "cluster-domain", "cluster.local", "the cluster's domain")
	flags.StringSliceVar(&a.excluded, "exclude-namespace", []string{"kube-system"}, "namespaces that the agent is told to leave alone")
	flags.IntSliceVar(&a.numbers, "dubbo-port", []int{20880}, "ports that are Dubbo's, whatever their names")
	flags.BoolVar(&a.asIs, "as-is", false, "take the namespace's label as it is now, not as if it were enabled")
	c.MarkFlagRequired("namespace") //nolint:errcheck // errs for an unknown flag alone
	return c
}

func (p *Params) run(ctx context.Context, a *asked) error {
	a.mesh = p.Cluster.MeshNamespace
	objects, err := p.objects(ctx, a)
	if err != nil {
		return err
	}
	found, err := sort(objects, a)
	if err != nil {
		return err
	}
	document := found.document()
	if err := p.Write(document, document.rows()); err != nil {
		return err
	}
	if n := document.Summary.Blocks; n > 0 {
		return fmt.Errorf("%d finding(s) block: mend them before the namespace is enrolled", n)
	}
	return nil
}

// objects asks the cluster, or reads files.
func (p *Params) objects(ctx context.Context, a *asked) ([]manifest.Object, error) {
	if len(a.from) > 0 {
		return manifest.Load(a.from)
	}
	return p.asked(ctx, a)
}

// document says everything about what was found.
func (f *found) document() *Document {
	d := &Document{
		APIVersion: admin.APIVersion, Namespace: f.namespace,
		Pods: []Pod{}, Services: []Service{}, Policies: []policies.Verdict{}, Conflicts: []Conflict{},
	}
	d.Pods = append(d.Pods, f.judgements...)
	for i := range f.policies {
		if v, policy := f.world.Judge(&f.policies[i]); policy {
			d.Policies = append(d.Policies, v)
		}
	}
	d.Services = append(d.Services, f.ports()...)
	d.Conflicts = append(d.Conflicts, f.conflicts()...)
	d.count()
	return d
}

// count fills the summary.
func (d *Document) count() {
	for _, p := range d.Pods {
		switch p.State {
		case steered:
			d.Summary.Steered++
		case excluded:
			d.Summary.Excluded++
		case outside:
			d.Summary.Outside++
		}
	}
	for _, v := range d.Policies {
		for _, f := range v.Findings {
			d.Summary.Blocks += one(f.Blocks)
		}
	}
	for _, s := range d.Services {
		d.Summary.Blocks += one(s.Blocks)
	}
	for _, c := range d.Conflicts {
		d.Summary.Blocks += one(c.Blocks)
	}
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}
