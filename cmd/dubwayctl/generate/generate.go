// Package generate holds the command that writes the headless Services which a fleet with a
// registry of its own lacks: consumers there dial providers' addresses, and istiod knows of
// those, and sends listeners and routes for them, only if a Service has them behind it. It
// writes manifests; to apply them is kubectl's.
package generate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/cmd/dubwayctl/kubectl"
	"github.com/dubway/dubway/cmd/dubwayctl/manifest"
	"github.com/dubway/dubway/cmd/dubwayctl/registry"
	"github.com/dubway/dubway/cmd/dubwayctl/registry/nacos"
	"github.com/dubway/dubway/cmd/dubwayctl/registry/zookeeper"
)

// Params are what the command takes from dubwayctl.
type Params struct {
	Stdout, Stderr io.Writer
	Cluster        *kubectl.Kubectl // is asked for pods and Services unless files are named
	JSON           func() bool      // whether -o json was given
	// Write writes a document as JSON.
	Write func(document any, rows [][]any) error
}

// asked is what an operator asked for.
type asked struct {
	registry  string
	pods      string
	selected  bool // by pods, whatever it is: "" selects all
	namespace string
	from      []string
	numbers   []int
	patience  time.Duration
}

// Command returns the command, of which there is one kind so far.
func Command(p *Params) *cobra.Command {
	c := &cobra.Command{
		Use:   "generate",
		Short: "Write manifests that a mesh needs and a fleet lacks",
		Args:  cobra.NoArgs,
	}
	c.AddCommand(p.services())
	return c
}

func (p *Params) services() *cobra.Command {
	a := &asked{}
	c := &cobra.Command{
		Use:   "services {--from-registry URL | --from-pods SELECTOR} [-n NAMESPACE]",
		Short: "Write the headless Services by which istiod knows the providers of a registry",
		Long: "Write a headless Service (port dubbo) for each application whose providers consumers dial by the addresses in\n" +
			"a registry: without one istiod does not know them, nothing steers the calls and no policy holds.\n\n" +
			"Providers come from ZooKeeper or Nacos, by interfaces or by applications, and are matched to pods by address;\n" +
			"or they are the pods that a label selector names. What is no pod's address (machines, other clusters) and what\n" +
			"has such a Service already is said on the standard error, and nothing is written for it.\n\n" +
			"Nothing is applied: pipe the output to kubectl apply -f -. To go back, delete what has the label\n" +
			"app.kubernetes.io/managed-by=dubwayctl.",
		Example: "  dubwayctl generate services --from-registry zookeeper://zookeeper.infra:2181 > services.yaml\n" +
			"  dubwayctl generate services --from-registry 'nacos://nacos.infra:8848?namespace=prod' -n shop\n" +
			"  dubwayctl generate services --from-pods app=orders -n shop | kubectl diff -f -",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			a.selected = c.Flags().Changed("from-pods")
			return p.run(c.Context(), a)
		},
	}
	flags := c.Flags()
	flags.StringVar(&a.registry, "from-registry", "",
		"zookeeper://HOST:PORT[,...][?root=dubbo] or nacos://HOST:PORT[?namespace=ID&group=GROUP]")
	flags.StringVar(&a.pods, "from-pods", "", "a label `selector` of the providers' pods, as app=orders")
	flags.StringVarP(&a.namespace, "namespace", "n", "", "the `namespace` of the pods; all unless given")
	flags.StringSliceVar(&a.from, "from", nil, "files or directories of manifests (pods, services), in place of the cluster")
	flags.IntSliceVar(&a.numbers, "dubbo-port", []int{20880}, "with --from-pods: ports that are Dubbo's, whatever their names")
	flags.DurationVar(&a.patience, "timeout", 30*time.Second, "how long a registry may take")
	c.MarkFlagsMutuallyExclusive("from-registry", "from-pods")
	c.MarkFlagsOneRequired("from-registry", "from-pods")
	return c
}

func (p *Params) run(ctx context.Context, a *asked) error {
	objects, err := p.objects(ctx, a)
	if err != nil {
		return err
	}
	f, err := take(objects, a)
	if err != nil {
		return err
	}
	if a.selected {
		if err := f.selectPods(a); err != nil {
			return err
		}
	} else {
		providers, err := read(ctx, a)
		if err != nil {
			return err
		}
		f.match(providers)
	}
	return p.write(f.result(a))
}

// read reads the registry.
func read(ctx context.Context, a *asked) ([]registry.Provider, error) {
	at, err := url.Parse(a.registry)
	if err != nil {
		return nil, errors.New("--from-registry is no URL: write zookeeper://HOST:PORT or nacos://HOST:PORT") // it may hold a password
	}
	ctx, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	switch at.Scheme {
	case "zookeeper":
		return zookeeper.Read(ctx, at)
	case "nacos":
		return nacos.Read(ctx, at)
	}
	return nil, fmt.Errorf("unknown registry %q: use zookeeper or nacos, or --from-pods", at.Scheme)
}

// objects are the pods and Services of the namespace, or of all.
func (p *Params) objects(ctx context.Context, a *asked) ([]manifest.Object, error) {
	if len(a.from) > 0 {
		return manifest.Load(a.from)
	}
	where := []string{"-A"}
	if a.namespace != "" {
		where = []string{"-n", a.namespace}
	}
	text, err := p.Cluster.Output(ctx, append([]string{"get", "pods,services", "-o", "json"}, where...)...)
	if err != nil {
		return nil, err
	}
	return manifest.Parse(text)
}
