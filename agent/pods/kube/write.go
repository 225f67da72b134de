package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// manager is who owns, in managedFields, what the agent writes.
const manager = "dubway-agent"

// Condition is what a pod's status says of its enrolment.
type Condition struct {
	Enrolled bool
	Reason   string // one word, in CamelCase
	Message  string // a sentence, for people
}

// object is a patch, or a part of one.
type object map[string]any

// SetCondition writes the condition into a pod's status; nil takes it away. A pod that is
// gone, or another one of that name, is no error: there is nothing left to report on.
func (a *API) SetCondition(ctx context.Context, pod Ref, c *Condition) error {
	condition := object{"type": ConditionType, "$patch": "delete"}
	if c != nil {
		status := corev1.ConditionFalse
		if c.Enrolled {
			status = corev1.ConditionTrue
		}
		condition = object{
			"type": ConditionType, "status": status, "reason": c.Reason, "message": c.Message,
			"lastTransitionTime": metav1.Now(),
		}
	}
	patch := object{"metadata": object{"uid": pod.UID}, "status": object{"conditions": []object{condition}}}
	return a.patch(ctx, change{pod: pod, kind: types.StrategicMergePatchType, body: patch, sub: "status"})
}

// SetMark writes the label that says that a pod speaks TLS, and the annotation that says
// that we set it, or takes both away.
func (a *API) SetMark(ctx context.Context, pod Ref, set bool) error {
	var label, annotation any // null takes away
	if set {
		label, annotation = tlsIstio, tlsSet
	}
	return a.patch(ctx, change{pod: pod, kind: types.MergePatchType, body: object{"metadata": object{
		"uid": pod.UID, "labels": object{tlsLabel: label}, "annotations": object{tlsAnnotation: annotation},
	}}})
}

// change is one patch of a pod.
type change struct {
	pod  Ref
	kind types.PatchType
	body object
	sub  string // resource; "" for the pod itself
	dry  bool
}

func (a *API) patch(ctx context.Context, c change) error {
	body, err := json.Marshal(c.body)
	if err != nil {
		return fmt.Errorf("write patch: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	ask := a.write.Patch(c.kind).Namespace(c.pod.Namespace).Resource("pods").Name(c.pod.Name).Param("fieldManager", manager).Body(body)
	if c.sub != "" {
		ask = ask.SubResource(c.sub)
	}
	if c.dry {
		ask = ask.Param("dryRun", metav1.DryRunAll)
	}
	err = ask.Do(ctx).Error()
	// A conflict is another UID.
	if !c.dry && (apierrors.IsNotFound(err) || apierrors.IsConflict(err)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("patch pod %s/%s: %w", c.pod.Namespace, c.pod.Name, err)
	}
	return nil
}

// Guarded tells why the agent must not patch pods: nobody would refuse more than it is
// meant to change. It tries, without effect, to set a label on the agent's own pod which
// the chart's ValidatingAdmissionPolicy refuses. A nil error means that it did.
func (a *API) Guarded(ctx context.Context) error {
	const fix = "; fix: install the chart's ValidatingAdmissionPolicy (docs/mtls.md)"
	if a.opts.Own.Name == "" {
		return errors.New("pods are not labelled: the agent does not know its own pod; fix: set POD_NAMESPACE and POD_NAME")
	}
	err := a.patch(ctx, change{pod: a.opts.Own, kind: types.MergePatchType, dry: true, body: object{
		"metadata": object{"labels": object{"dubway.io/refuse-this": "please"}},
	}})
	switch {
	case err == nil:
		return fmt.Errorf("pods are not labelled: the agent may change any field of any pod, and no admission policy limits that%s", fix)
	case strings.Contains(err.Error(), "ValidatingAdmissionPolicy"):
		return nil
	case apierrors.IsForbidden(err):
		return fmt.Errorf("pods are not labelled: the agent may not patch pods: %w; "+
			"fix: give its service account the chart's ClusterRole", err)
	default:
		return fmt.Errorf("pods are not labelled: whether an admission policy limits the agent cannot be asked: %w", err)
	}
}

// Event is something that happened to a pod.
type Event struct {
	Pod     Ref
	Warning bool
	Reason  string // one word, in CamelCase
	Action  string // what was tried, the same
	Note    string // for people
}

// maxNote bounds an event's note, in bytes; the API server's own limit is 1024.
const maxNote = 1000

// Tell makes an event.
func (a *API) Tell(ctx context.Context, e *Event) error {
	kind := corev1.EventTypeNormal
	if e.Warning {
		kind = corev1.EventTypeWarning
	}
	note := e.Note
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote], "")
	}
	now := time.Now()
	body, err := json.Marshal(&eventsv1.Event{
		TypeMeta:  metav1.TypeMeta{APIVersion: "events.k8s.io/v1", Kind: "Event"},
		EventTime: metav1.NewMicroTime(now),
		ObjectMeta: metav1.ObjectMeta{
			Namespace: e.Pod.Namespace, Name: fmt.Sprintf("%.230s.%x", e.Pod.Name, now.UnixNano()),
		},
		ReportingController: "dubway.io/agent", ReportingInstance: a.opts.Node,
		Regarding: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: e.Pod.Namespace, Name: e.Pod.Name, UID: types.UID(e.Pod.UID),
		},
		Type: kind, Reason: e.Reason, Action: e.Action, Note: note,
	})
	if err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	err = a.write.Post().AbsPath("/apis/events.k8s.io/v1/namespaces", e.Pod.Namespace, "events").
		SetHeader("Content-Type", "application/json").SetHeader("Accept", "application/json").Body(body).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("make event: %w", err)
	}
	return nil
}

// Own names the agent's own pod; empty outside of a cluster.
func (a *API) Own() Ref { return a.opts.Own }
