package manifest

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Pod is what of a Pod matters here.
type Pod struct {
	Metadata Metadata `json:"metadata"`
	Spec     struct {
		NodeName         string            `json:"nodeName"`
		HostNetwork      bool              `json:"hostNetwork"`
		RuntimeClassName string            `json:"runtimeClassName"`
		NodeSelector     map[string]string `json:"nodeSelector"`
		InitContainers   []Container       `json:"initContainers"`
		Containers       []Container       `json:"containers"`
		OS               struct {
			Name string `json:"name"`
		} `json:"os"`
	} `json:"spec"`
	Status struct {
		Phase  string `json:"phase"`
		PodIP  string `json:"podIP"` //nolint:tagliatelle // as Kubernetes spells it
		PodIPs []struct {
			IP string `json:"ip"`
		} `json:"podIPs"`
	} `json:"status"`
}

// Container is what of a container matters here.
type Container struct {
	Name          string          `json:"name"`
	RestartPolicy string          `json:"restartPolicy"` // of init's: Always is a native sidecar
	Ports         []ContainerPort `json:"ports"`
}

// ContainerPort is a port that a container says it listens on.
type ContainerPort struct {
	Name          string `json:"name"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"` // "" is TCP
}

// Finished tells whether the pod has ended: it stays in the API, and its address may be
// another pod's by now.
func (p *Pod) Finished() bool { return p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" }

// Addresses are those that the pod has while it is not finished.
func (p *Pod) Addresses() []string {
	if p.Finished() {
		return nil
	}
	all := make([]string, 0, len(p.Status.PodIPs))
	for _, a := range p.Status.PodIPs {
		all = append(all, a.IP)
	}
	if len(all) == 0 && p.Status.PodIP != "" {
		all = append(all, p.Status.PodIP)
	}
	return all
}

// PortsAnnotation lists ports that no container declares, as "20880,20881".
const PortsAnnotation = "dubway.io/inbound-ports"

// Running are the containers that run as long as the pod does, native sidecars first.
func (p *Pod) Running() []Container {
	var all []Container
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy == "Always" {
			all = append(all, c)
		}
	}
	return append(all, p.Spec.Containers...)
}

// Ports are the TCP ports that are the pod's own to the mesh, in order, each once: those that
// its containers declare, and those of its annotation.
func (p *Pod) Ports() []int {
	all := []int{}
	for _, c := range p.Running() {
		for _, port := range c.Ports {
			if port.Protocol == "" || port.Protocol == "TCP" {
				all = append(all, port.ContainerPort)
			}
		}
	}
	for text := range strings.SplitSeq(p.Metadata.Annotations[PortsAnnotation], ",") {
		if n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16); err == nil && n > 0 {
			all = append(all, int(n))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Name is NAMESPACE/NAME.
func (p *Pod) Name() string { return p.Metadata.Namespace + "/" + p.Metadata.Name }

// Service is what of a Service matters here.
type Service struct {
	Metadata Metadata `json:"metadata"`
	Spec     struct {
		Type      string            `json:"type"`
		ClusterIP string            `json:"clusterIP"` //nolint:tagliatelle // the same
		Selector  map[string]string `json:"selector"`
		Ports     []ServicePort     `json:"ports"`
	} `json:"spec"`
}

// ServicePort is a port of a Service.
type ServicePort struct {
	Name        string  `json:"name"`
	Port        int     `json:"port"`
	Protocol    string  `json:"protocol"` // "" is TCP
	AppProtocol *string `json:"appProtocol"`
	TargetPort  Target  `json:"targetPort"`
}

// Target is a port by its number, or by the name that a container gives it; the zero value
// is the Service's own number.
type Target struct {
	Number int
	Name   string
}

var _ json.Unmarshaler = (*Target)(nil)

// UnmarshalJSON reads a number or a text.
func (t *Target) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte(`"`)) {
		if err := json.Unmarshal(text, &t.Name); err != nil {
			return err //nolint:wrapcheck // the decoder says where
		}
		if n, err := strconv.Atoi(t.Name); err == nil {
			*t = Target{Number: n}
		}
		return nil
	}
	return json.Unmarshal(text, &t.Number) //nolint:wrapcheck // the decoder says where
}

// Headless tells whether a Service has no address of its own: its consumers dial pods.
func (s *Service) Headless() bool { return s.Spec.ClusterIP == "None" }

// Name is NAMESPACE/NAME.
func (s *Service) Name() string { return s.Metadata.Namespace + "/" + s.Metadata.Name }

// Selects tells whether a Service has the pod behind it.
func (s *Service) Selects(p *Pod) bool {
	return s.Metadata.Namespace == p.Metadata.Namespace && len(s.Spec.Selector) > 0 && Matches(s.Spec.Selector, p.Metadata.Labels)
}

// On returns the pod's port that a port of the Service leads to, or 0.
func (s ServicePort) On(p *Pod) int {
	switch {
	case s.TargetPort.Number > 0:
		return s.TargetPort.Number
	case s.TargetPort.Name == "":
		return s.Port
	}
	for _, c := range p.Running() {
		for _, port := range c.Ports {
			if port.Name == s.TargetPort.Name {
				return port.ContainerPort
			}
		}
	}
	return 0
}

// Matches tells whether labels have all of a selector's.
func Matches(selector, labels map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}
