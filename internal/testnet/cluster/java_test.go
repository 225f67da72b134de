//go:build e2e

package cluster_test

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/testnet/cluster"
	"github.com/dubway/dubway/internal/testnet/cluster/image"
)

// javaImage is the image of Dubbo Java's peers.
const javaImage = "dubway.test/dubbo-java:1"

// TestJavaCalls: the same of Java, and of Java and Go together.
func TestJavaCalls(t *testing.T) {
	w := begin(t, "java")
	w.step("images made and imported", func() {
		w.peers()
		w.java()
	})
	w.step("providers and consumers run", func() {
		w.apply(javaPeer, "java", "provider", "n2", "Provider", `"20880", j1`)
		provider := w.pods("java", "app=provider", cluster.Ready(1))[0]
		target := fmt.Sprintf("target=%s:20880", provider.Addresses[0])
		w.apply(javaPeer, "java", "consumer", "n1", "Load", strconv.Quote(target))
		w.apply(peer, "java", "go-consumer", "n1", "load", strconv.Quote(target))
		w.reached("java", "consumer", 100)
		w.reached("java", "go-consumer", 100)
	})
	w.step("consumers stopped, and their calls counted", func() {
		if n := w.tally("java", "consumer", "go-consumer"); n < 200 {
			t.Errorf("%d calls were made", n)
		}
	})
}

// java makes an image of a Java runtime with what Dubbo needs of it, and imports it.
func (w *world) java() {
	w.Helper()
	runtime := filepath.Join(w.TempDir(), "jre")
	link := exec.CommandContext(w.ctx, "jlink", "--add-modules=java.se,jdk.unsupported", "--strip-debug",
		"--no-header-files", "--no-man-pages", "--output="+runtime)
	if said, err := link.CombinedOutput(); err != nil {
		w.Fatalf("jlink: %v\n%s", err, said)
	}
	peers, err := filepath.Abs("../../../build/peers/java-3.3.6")
	w.must(err)
	files := map[string]string{"jre": runtime, "app/classes": filepath.Join(peers, "classes"), "app/lib": filepath.Join(peers, "lib")}
	for _, library := range w.libraries(runtime) {
		files[strings.TrimPrefix(library, "/")] = library
	}
	w.image(&image.Image{
		Name: javaImage, Files: files, Empty: []string{"tmp"},
		Entrypoint: []string{
			"/jre/bin/java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m",
			"--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.math=ALL-UNNAMED", "--add-opens=java.base/java.util=ALL-UNNAMED",
			"-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-Ddubbo.service.shutdown.wait=1000", "-cp", "/app/classes:/app/lib/*",
		},
	})
}

// libraries are those of this machine that the binaries in a folder want, with the loader
// that finds them.
func (w *world) libraries(dir string) []string {
	w.Helper()
	found := map[string]bool{}
	w.must(filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		if binary, err := elf.Open(path); err != nil || binary.Close() != nil {
			return nil //nolint:nilerr // it is none
		}
		said, err := exec.CommandContext(w.ctx, "ldd", path).Output()
		for word := range strings.FieldsSeq(string(said)) {
			if strings.HasPrefix(word, "/") && !strings.HasPrefix(word, dir) {
				found[strings.TrimSuffix(word, ":")] = true
			}
		}
		return err
	}))
	var all []string
	for library := range found {
		all = append(all, library)
	}
	return all
}

// javaPeer is a pod of Dubbo Java: namespace, name, node, class, its arguments.
const javaPeer = `
apiVersion: v1
kind: Pod
metadata: {namespace: %[1]s, name: %[2]s, labels: {app: %[2]s}}
spec:
  nodeName: %[3]s
  terminationGracePeriodSeconds: 2
  containers:
    - name: dubbo-java
      image: ` + javaImage + `
      imagePullPolicy: Never
      args: [org.dubway.test.%[4]s, %[5]s]
      env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: PROBE_COUNTS, value: /counts}
      volumeMounts: [{name: counts, mountPath: /counts, subPathExpr: %[1]s/$(POD_NAME)}]
  volumes: [{name: counts, hostPath: {path: ` + counts + `, type: DirectoryOrCreate}}]
`
