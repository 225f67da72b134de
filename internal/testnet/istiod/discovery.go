package istiod

import (
	"fmt"
	"os"
	"path/filepath"
)

// IstiodEnv is the folder of the built binary, as `make e2e-istiod` says it.
const IstiodEnv = "DUBWAY_E2E_ISTIOD"

// Ports of the control plane.
const (
	PlainPort = 15010 // xDS without TLS
	TLSPort   = 15012 // xDS and certificates
	ReadyPort = 8080  // says at /ready, by HTTP, whether it is ready
)

// MeshConfig is Istio's of the whole mesh. The providers do nothing until a Telemetry names
// them.
const MeshConfig = `
trustDomain: cluster.local
rootNamespace: istio-system
accessLogFile: ""
extensionProviders:
- {name: text, envoyFileAccessLog: {path: /dev/stdout}}
- {name: otel-als, envoyOtelAls: {service: otel.istio-system.svc.cluster.local, port: 4317}}
- {name: otel, opentelemetry: {service: otel.istio-system.svc.cluster.local, port: 4317}}
- {name: prometheus, prometheus: {}}
`

// Discovery is one way in which istiod runs: alone, without the webhooks of its chart.
type Discovery struct {
	Kubeconfig string // a file; empty for that of the pod that it runs in
	MeshConfig string // a file with MeshConfig
	Serves     string // the address of PlainPort and TLSPort; empty for all
	Ready      string // the address of ReadyPort, the same
	Agents     string // the account that agents run as, NAMESPACE/NAME
}

// Binary is istiod's, which is static, in the folder that IstiodEnv says.
func Binary() string { return filepath.Join(os.Getenv(IstiodEnv), "istiod") }

// Args are its arguments.
func (d Discovery) Args() []string {
	args := []string{
		"discovery", "--meshConfig", d.MeshConfig,
		"--grpcAddr", fmt.Sprintf("%s:%d", d.Serves, PlainPort), "--secureGRPCAddr", fmt.Sprintf("%s:%d", d.Serves, TLSPort),
		"--httpAddr", fmt.Sprintf("%s:%d", d.Ready, ReadyPort), "--httpsAddr", "127.0.0.1:15017",
		"--monitoringAddr", "127.0.0.1:15014", "--ctrlz_port", "0",
	}
	if d.Kubeconfig != "" {
		args = append(args, "--kubeconfig", d.Kubeconfig)
	}
	return args
}

// Env is its environment: NAME=VALUE.
func (d Discovery) Env() []string {
	return []string{
		"POD_NAMESPACE=istio-system", "POD_NAME=istiod-0", "CLUSTER_ID=Kubernetes", "ENABLE_LEADER_ELECTION=false",
		"VALIDATION_WEBHOOK_CONFIG_NAME=", "INJECTION_WEBHOOK_CONFIG_NAME=", "INJECT_ENABLED=false", "PILOT_ENABLE_ANALYSIS=false",
		"CA_TRUSTED_NODE_ACCOUNTS=" + d.Agents,
	}
}

// Kinds are the files that define the kinds that istiod reads, Istio's and the Gateway API's.
func Kinds() ([]string, error) {
	dir := os.Getenv(IstiodEnv)
	files, err := filepath.Glob(filepath.Join(dir, "kinds", "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("find definitions of kinds: %w", err)
	}
	if dir == "" || len(files) == 0 {
		return nil, fmt.Errorf("no definitions of kinds below %q, which %s says: run make e2e-control", dir, IstiodEnv)
	}
	return files, nil
}
