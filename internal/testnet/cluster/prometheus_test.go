//go:build e2e

package cluster_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/testnet/cluster"
)

// Prometheus, of Debian's package, in its namespace.
const (
	prometheusImage = "dubway.test/prometheus:1"
	monitoring      = "monitoring"
	prometheusPort  = "9090"
)

// prometheus runs one on n2, which scrapes those pods of the cluster that their annotations say.
func (w *world) prometheus() {
	w.Helper()
	binary, err := exec.LookPath("prometheus")
	if err != nil {
		w.Fatalf("%v: install Debian's package prometheus, as make e2e does", err)
	}
	files := map[string]string{"prometheus": binary}
	for _, library := range w.libraries(binary) {
		files[strings.TrimPrefix(library, "/")] = library
	}
	w.program(w.Nodes[1], prometheusImage, files)
	config, err := json.Marshal(annotated)
	w.must(err)
	targets, err := json.Marshal(w.targets())
	w.must(err)
	w.apply(prometheusPod, monitoring, prometheusImage, config, prometheusPort, targets)
	w.pods(monitoring, "app=prometheus", cluster.Ready(1))
}

// target is what Prometheus is told to know of one.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// targets says of the cluster's pods, as JSON, what Prometheus' own kubernetes_sd_configs says of
// them (its documentation, role pod), which Debian's build is without: each port of a
// container is one, and a container that has none.
func (w *world) targets() string {
	w.Helper()
	var list struct {
		Items []struct {
			Metadata struct {
				Name, Namespace     string
				Labels, Annotations map[string]string
			}
			Spec struct {
				NodeName   string
				Containers []struct {
					Name  string
					Ports []struct {
						Name          string
						ContainerPort int
					}
				}
			}
			Status struct{ PodIP string }
		}
	}
	w.must(w.Read(w.ctx, "/api/v1/pods", &list))
	const meta = "__meta_kubernetes_"
	var all []target
	for _, pod := range list.Items {
		labels := map[string]string{meta + "namespace": pod.Metadata.Namespace, meta + "pod_name": pod.Metadata.Name, meta + "pod_node_name": pod.Spec.NodeName}
		for kind, values := range map[string]map[string]string{"pod_label_": pod.Metadata.Labels, "pod_annotation_": pod.Metadata.Annotations} {
			for name, value := range values {
				labels[meta+kind+regexp.MustCompile(`[^a-zA-Z0-9_]`).ReplaceAllString(name, "_")] = value
			}
		}
		for _, container := range pod.Spec.Containers {
			labels[meta+"pod_container_name"] = container.Name
			if len(container.Ports) == 0 {
				all = append(all, target{Targets: []string{pod.Status.PodIP}, Labels: maps.Clone(labels)})
			}
			for _, port := range container.Ports {
				labels[meta+"pod_container_port_name"] = port.Name
				all = append(all, target{Targets: []string{net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(port.ContainerPort))}, Labels: maps.Clone(labels)})
			}
		}
	}
	text, err := json.Marshal(all)
	w.must(err)
	return string(text)
}

// annotated is the configuration: the job for pods of Prometheus' own example, by which most
// people scrape what is annotated, with a shorter interval, and the pods from a file (targets).
const annotated = `
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: kubernetes-pods
    file_sd_configs: [{files: [/etc/prometheus/targets.json]}]
    relabel_configs:
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], action: keep, regex: "true"}
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], action: replace, target_label: __metrics_path__, regex: (.+)}
      - {source_labels: [__address__, __meta_kubernetes_pod_annotation_prometheus_io_port], action: replace, regex: '([^:]+)(?::\d+)?;(\d+)', replacement: '$1:$2', target_label: __address__}
      - {action: labelmap, regex: __meta_kubernetes_pod_label_(.+)}
      - {source_labels: [__meta_kubernetes_namespace], action: replace, target_label: kubernetes_namespace}
      - {source_labels: [__meta_kubernetes_pod_name], action: replace, target_label: kubernetes_pod_name}
`

const prometheusPod = `
apiVersion: v1
kind: ConfigMap
metadata: {namespace: %[1]s, name: prometheus}
data: {prometheus.yml: %[3]s, targets.json: %[5]s}
---
apiVersion: v1
kind: Pod
metadata: {namespace: %[1]s, name: prometheus, labels: {app: prometheus}}
spec:
  nodeName: n2
  terminationGracePeriodSeconds: 1
  containers:
    - name: prometheus
      image: %[2]s
      imagePullPolicy: Never
      args: [--config.file=/etc/prometheus/prometheus.yml, --storage.tsdb.path=/tmp/tsdb]
      readinessProbe: {httpGet: {port: %[4]s, path: /-/ready}, periodSeconds: 1}
      volumeMounts: [{name: config, mountPath: /etc/prometheus}]
  volumes: [{name: config, configMap: {name: prometheus}}]
`

// series is one of a query's answer.
type series struct {
	Metric map[string]string
	Value  [2]any // time, and a number as text
}

// query asks Prometheus.
func (w *world) query(expression string) ([]series, error) {
	w.Helper()
	pod := w.pods(monitoring, "app=prometheus", cluster.Ready(1))[0]
	address := "http://" + net.JoinHostPort(pod.Addresses[0], prometheusPort) + "/api/v1/query?query=" + url.QueryEscape(expression)
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: w.Nodes[0].DialContext}}
	ask, err := http.NewRequestWithContext(w.ctx, http.MethodGet, address, http.NoBody)
	w.must(err)
	answer, err := client.Do(ask)
	w.must(err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	w.must(err)
	var said struct {
		Status, Error string
		Data          struct{ Result []series }
	}
	if err := json.Unmarshal(text, &said); err != nil {
		return nil, fmt.Errorf("query %s: %w: %s", expression, err, text)
	}
	if said.Status != "success" {
		return nil, fmt.Errorf("query %s: %s", expression, said.Error)
	}
	return said.Data.Result, nil
}

// scrapes waits until Prometheus says that a sum is so: it learns of it with its next scrape.
func (w *world) scrapes(expression string, want int) {
	w.Helper()
	var last string
	w.until(fmt.Sprintf("%s to be %d", expression, want), func() bool {
		found, err := w.query(expression)
		w.must(err)
		if len(found) != 1 {
			return false
		}
		if said := fmt.Sprint(found[0].Value[1]); said != last {
			last = said
			w.Logf("%s = %s", expression, said)
		}
		n, err := strconv.Atoi(last)
		return err == nil && n == want
	})
}

// everyCall is how docs/observe.md adds up.
const everyCall = `sum(istio_requests_total{reporter="source"})`

// scraped: Prometheus has each node's proxy and agent once, every call of the other parts, what
// docs/observe.md wants people to be woken for is there and quiet, and it takes what the
// dashboards ask.
func (w *world) scraped() {
	w.step("nodes found", func() {
		w.scrapes(`count(up{kubernetes_namespace="`+system+`"} == 1)`, len(w.Nodes))
		w.scrapes("sum(dubway_agent_up)", len(w.Nodes))
		w.scrapes("count(dubway_proxy_workloads)", len(w.Nodes))
	})
	w.step("calls added up", func() {
		if !strings.Contains(w.guide(), "`"+everyCall+"`") {
			w.Errorf("the guide does not have %s", everyCall)
		}
		calls := w.served("shop") + w.served("java")
		if calls == 0 {
			w.Fatal("no call was made: this is the last part of TestIstiod")
		}
		w.scrapes(everyCall, calls)
	})
	w.step("alarms of docs/observe.md", func() {
		alarms := w.alarms()
		if len(alarms) < 8 {
			w.Fatalf("the guide has %q: nothing is looked at", alarms)
		}
		for _, alarm := range alarms {
			if found, err := w.query(alarm); err != nil || len(found) > 0 {
				w.Errorf("%s: %v %v", alarm, found, err)
			}
			for _, metric := range regexp.MustCompile(`dubway_[a-z_]+`).FindAllString(alarm, -1) {
				nodes, err := w.query("count by (instance) (" + metric + ")")
				if err != nil || len(nodes) != len(w.Nodes) {
					w.Errorf("%s: of %s there is %v %v", alarm, metric, nodes, err)
				}
			}
		}
	})
	w.step("dashboards", func() {
		asked, answered := w.dashboards()
		w.Logf("of %d queries, %d were answered with something", asked, answered)
		if asked < 50 || answered < 25 {
			w.Errorf("%d of %d queries of the dashboards were answered with something", answered, asked)
		}
	})
}

// guide is the text of docs/observe.md.
func (w *world) guide() string {
	w.Helper()
	text, err := os.ReadFile(filepath.Join(w.checkout(), "docs/observe.md"))
	w.must(err)
	return string(text)
}

// alarms are the expressions of the guide's table.
func (w *world) alarms() (all []string) {
	w.Helper()
	_, table, found := strings.Cut(w.guide(), "| expression |")
	if !found {
		w.Fatal("the guide has no table of expressions")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(table, -1) {
		all = append(all, row[1])
	}
	return all
}

// dashboards asks what their panels ask, of everything.
func (w *world) dashboards() (asked, answered int) {
	w.Helper()
	files, err := filepath.Glob(filepath.Join(w.checkout(), "deploy/chart/dashboards/*.json"))
	w.must(err)
	chosen := strings.NewReplacer("$__rate_interval", "5m", "$reporter", "source", "$instance", ".*", "$namespace", ".*", "$service", ".*")
	for _, file := range files {
		text, err := os.ReadFile(file)
		w.must(err)
		var board struct {
			Panels []struct{ Targets []struct{ Expr string } }
		}
		w.must(json.Unmarshal(text, &board))
		for _, panel := range board.Panels {
			for _, target := range panel.Targets {
				asked++
				found, err := w.query(chosen.Replace(target.Expr))
				if err != nil {
					w.Error(err)
				}
				if slices.ContainsFunc(found, func(s series) bool { return s.Value[1] != "NaN" }) {
					answered++
				}
			}
		}
	}
	return asked, answered
}
