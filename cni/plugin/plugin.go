// Package plugin is what dubway-cni does at each verb of the CNI specification, as a
// plugin that is chained behind those that make a pod's network. It asks the agent and
// knows nothing itself: which pods are to be part of the mesh is the agent's to say.
//
// ADD hands on what the plugins before it made. DEL and GC never fail: what they could
// not tell, the agent finds out.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	cniversion "github.com/containernetworking/cni/pkg/version"

	"github.com/dubway/dubway/cni/entry"
	"github.com/dubway/dubway/cni/wire"
	"github.com/dubway/dubway/internal/version"
)

const (
	removeTimeout = 2 * time.Second // of DEL and GC: nothing waits for us when a pod goes
	lookTimeout   = 5 * time.Second // of CHECK and STATUS
	// openPatience is how long a pod that may start without the agent waits for one to
	// be there: a restart takes less.
	openPatience = 5 * time.Second
)

// Codes of STATUS, of the CNI specification 1.1.
const (
	codeNotAvailable uint = 50 // ADD would fail
	codeLimited      uint = 51 // and existing pods may miss something
)

// Plugin is one run of the plugin.
type Plugin struct {
	Out  io.Writer // the result, for the runtime
	Log  io.Writer // lines for people; the runtime has them in its log
	Node string    // the host's name, for messages
}

// Run does what the process's environment and standard input say, in the runtime's
// words, and returns what it is to be told.
func Run() *types.Error {
	node, err := os.Hostname()
	if err != nil {
		node = "NODE"
	}
	p := &Plugin{Out: os.Stdout, Log: os.Stderr, Node: node}
	return skel.PluginMainFuncsWithError(
		skel.CNIFuncs{Add: p.Add, Check: p.Check, Del: p.Del, GC: p.GC, Status: p.Status},
		cniversion.PluginSupports(entry.Versions()...), About())
}

// About is one line that says what this binary is.
func About() string { return "CNI plugin " + entry.Type + " " + version.Version }

// Add makes the pod part of the mesh, if it is to be one, before its containers start.
func (p *Plugin) Add(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	if err := c.readPrevious(); err != nil {
		return err
	}
	if c.asks() {
		err := p.add(c, args)
		if err != nil && c.entry.Mode == entry.Closed {
			return p.refuse(c, err)
		}
		if err != nil {
			p.logf("pod %s starts outside the mesh, because the mode is open: %v", c.pod(), err)
		}
	}
	result, err := c.previous.GetAsVersion(c.CNIVersion)
	if err != nil {
		return fmt.Errorf("convert result: %w", err)
	}
	if err := result.PrintTo(p.Out); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}

// add asks the agent until it answers.
func (p *Plugin) add(c *call, args *skel.CmdArgs) error {
	namespace, err := os.Open(args.Netns)
	if err != nil {
		return fmt.Errorf("open the pod's network namespace: %w", err)
	}
	defer namespace.Close()
	asker := &asker{socket: c.entry.Socket, timeout: c.entry.Timeout(), patience: c.entry.Timeout(), log: p.logf}
	if c.entry.Mode == entry.Open {
		asker.patience = min(asker.patience, openPatience)
	}
	return asker.ask(context.Background(), &wire.Request{Verb: wire.Add, Sandbox: c.sandbox(args)}, namespace)
}

// Check tells whether a pod is still as Add left it.
func (p *Plugin) Check(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	if err := c.readPrevious(); err != nil {
		return err
	}
	if !c.asks() {
		return nil
	}
	namespace, err := os.Open(args.Netns)
	if err != nil {
		return failure(types.ErrInvalidNetNS, "open the pod's network namespace", err.Error())
	}
	defer namespace.Close()
	asker := &asker{socket: c.entry.Socket, timeout: lookTimeout, patience: lookTimeout, log: p.logf}
	err = asker.ask(context.Background(), &wire.Request{Verb: wire.Check, Sandbox: c.sandbox(args)}, namespace)
	if err != nil && c.entry.Mode == entry.Open && !errors.As(err, new(*refusal)) {
		p.logf("pod %s is not checked, because the mode is open: %v", c.pod(), err)
		return nil
	}
	if err != nil {
		return p.refuse(c, err)
	}
	return nil
}

// Del forgets a pod. It must not hold its deletion up, whatever is wrong with us.
func (p *Plugin) Del(args *skel.CmdArgs) error {
	c, err := parse(args)
	switch {
	case err != nil:
		p.logf("not told to the agent: %v", err)
	case c.asks():
		p.tell(c, &wire.Request{Verb: wire.Delete, Sandbox: c.sandbox(args)})
	}
	return nil
}

// GC forgets all pods but those that the runtime knows.
func (p *Plugin) GC(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		p.logf("not told to the agent: %v", err)
		return nil
	}
	containers, known := c.attached()
	switch {
	case !known:
		p.logf("not told to the agent: the runtime names no valid attachments")
	case len(containers) > wire.MaxContainers:
		p.logf("not told to the agent: %d containers, %d are allowed", len(containers), wire.MaxContainers)
	default:
		p.tell(c, &wire.Request{Verb: wire.Keep, Containers: containers})
	}
	return nil
}

// tell tells the agent of something that happens anyway.
func (p *Plugin) tell(c *call, r *wire.Request) {
	asker := &asker{socket: c.entry.Socket, timeout: removeTimeout, log: p.logf}
	if err := asker.ask(context.Background(), r, nil); err != nil {
		p.logf("the agent did not take %s, and will find out itself: %v", r.Verb, err)
	}
}

// Status tells whether ADD would succeed now. To fail makes the runtime's network "not
// ready", and the kubelet then starts no pod, the agent's own included, which alone could
// mend it: so it does that only where the configuration asks for it.
func (p *Plugin) Status(args *skel.CmdArgs) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	if c.entry.Mode == entry.Open {
		return nil
	}
	asker := &asker{socket: c.entry.Socket, timeout: lookTimeout, log: p.logf}
	err = asker.ask(context.Background(), &wire.Request{Verb: wire.Ready}, nil)
	if err == nil {
		return nil
	}
	if !c.entry.ReportStatus {
		p.logf("pods of the mesh would have to wait: %v", err)
		return nil
	}
	code := codeLimited
	if errors.As(err, new(*refusal)) {
		code = codeNotAvailable
	}
	return failure(code, "dubway: pods of the mesh cannot start: "+err.Error(), p.advice())
}

// refuse is the error with which a pod does not start. The kubelet shows it in the pod's
// events, to somebody who may not know of the mesh.
func (p *Plugin) refuse(c *call, err error) error {
	return failure(types.ErrTryAgainLater,
		fmt.Sprintf("dubway: pod %s is kept from running outside the mesh: %v", c.pod(), err), p.advice())
}

// advice says what to look at.
func (p *Plugin) advice() string {
	return fmt.Sprintf("see the agent of this node: kubectl get pods -A -o wide --field-selector spec.nodeName=%s "+
		"-l app.kubernetes.io/name=dubway, then its logs; the pod is tried again by itself; "+
		"docs/cni.md has how to let pods start without the mesh", p.Node)
}

// logf writes a line for people.
func (p *Plugin) logf(format string, args ...any) {
	_, _ = fmt.Fprintf(p.Log, entry.Type+": "+format+"\n", args...)
}
