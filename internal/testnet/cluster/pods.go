package cluster

import (
	"context"
	"fmt"
	"net/url"
	"strings"
)

// Pod is a pod as the API server knows it.
type Pod struct {
	Name, Namespace, UID string
	Node                 string   // its name
	Phase                string   // Pending, Running, Succeeded, Failed
	Addresses            []string // IPv4 first
	Ready                bool
	Restarts             int // of all its containers
	Labels               map[string]string
	Annotations          map[string]string
	Conditions           map[string]string // by type: "STATUS REASON: MESSAGE"
	Deleted              bool              // it is about to end
}

// podList is the part of the API's answer that Pods reads.
type podList struct {
	Items []struct {
		Metadata struct {
			Name, Namespace, UID string
			Labels, Annotations  map[string]string
			DeletionTimestamp    string
		}
		Spec   struct{ NodeName string }
		Status struct {
			Phase             string
			PodIPs            []struct{ IP string }
			Conditions        []struct{ Type, Status, Reason, Message string }
			ContainerStatuses []struct{ RestartCount int }
		}
	}
}

// Pods returns the pods of a namespace that have labels, as "app=a,version=v1"; all for "".
func (c *Cluster) Pods(ctx context.Context, namespace, selector string) ([]Pod, error) {
	var list podList
	path := fmt.Sprintf("/api/v1/namespaces/%s/pods?labelSelector=%s", namespace, url.QueryEscape(selector))
	if err := c.api.read(ctx, path, &list); err != nil {
		return nil, err
	}
	var pods []Pod
	for _, item := range list.Items {
		meta, status := item.Metadata, item.Status
		pod := Pod{
			Name: meta.Name, Namespace: meta.Namespace, UID: meta.UID, Node: item.Spec.NodeName, Phase: status.Phase,
			Labels: meta.Labels, Annotations: meta.Annotations, Conditions: map[string]string{}, Deleted: meta.DeletionTimestamp != "",
		}
		for _, address := range status.PodIPs {
			pod.Addresses = append(pod.Addresses, address.IP)
		}
		for _, condition := range status.Conditions {
			pod.Conditions[condition.Type] = strings.TrimSuffix(fmt.Sprintf("%s %s: %s", condition.Status, condition.Reason, condition.Message), " : ")
			pod.Ready = pod.Ready || condition.Type == "Ready" && condition.Status == "True"
		}
		for _, container := range status.ContainerStatuses {
			pod.Restarts += container.RestartCount
		}
		pods = append(pods, pod)
	}
	return pods, nil
}

// Await waits until accept says of the pods with labels that they are as they should be,
// and returns them. The error of the last time says why they are not.
func (c *Cluster) Await(ctx context.Context, namespace, selector string, accept func([]Pod) error) ([]Pod, error) {
	var pods []Pod
	err := eventually(ctx, fmt.Sprintf("pods %s of %s", selector, namespace), func(ctx context.Context) (err error) {
		if pods, err = c.Pods(ctx, namespace, selector); err != nil {
			return err
		}
		return accept(pods)
	})
	return pods, err
}

// Ready accepts exactly n pods that are all ready and none about to end.
func Ready(n int) func([]Pod) error {
	return func(pods []Pod) error {
		if len(pods) != n {
			return fmt.Errorf("there are %d, and not %d", len(pods), n)
		}
		for _, pod := range pods {
			if !pod.Ready || pod.Deleted {
				return fmt.Errorf("it is not ready: %+v", pod)
			}
		}
		return nil
	}
}

// Ended accepts exactly n pods that have all succeeded. When one has failed, nobody waits
// for it.
func Ended(n int) func([]Pod) error {
	return func(pods []Pod) error {
		if len(pods) != n {
			return fmt.Errorf("there are %d, and not %d", len(pods), n)
		}
		for _, pod := range pods {
			switch pod.Phase {
			case "Succeeded":
			case "Failed":
				return fmt.Errorf("%w: it has failed: %+v", errHopeless, pod)
			default:
				return fmt.Errorf("it has not succeeded: %+v", pod)
			}
		}
		return nil
	}
}
