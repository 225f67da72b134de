//go:build e2e

package cluster_test

import (
	"debug/elf"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dubway/dubway/deploy/image/archive"
)

// javaImage is the image of Dubbo Java's peers.
const javaImage = "dubway.test/dubbo-java:1"

// javaInMesh: Java on both nodes and on one, and Java and Go together.
func (w *world) javaInMesh() {
	w.namespace("java")
	w.step("providers enrolled", func() {
		w.run(peer{image: javaImage, namespace: "java", name: "provider", node: "n2", args: []string{"org.dubway.test.Provider", "20880", "java"}, serves: true})
		w.run(peer{image: peerImage, namespace: "java", name: "go-provider", node: "n1", args: []string{"provider", "20880", "go"}, serves: true})
		for provider, address := range map[string]string{"provider": "198.19.7.12", "go-provider": "198.19.7.13"} {
			w.apply(`
{apiVersion: v1, kind: Service, metadata: {namespace: java, name: %[1]s},
spec: {clusterIP: %[2]s, selector: {app: %[1]s}, ports: [{name: dubbo, port: 20880}]}}`, provider, address)
		}
		w.enrolled("java", "serves=true,"+tlsMode, 2)
	})
	load, java, golang := []string{"org.dubway.test.Load"}, "target=198.19.7.12:20880 timeout=20000", "target=198.19.7.13:20880 timeout=20000"
	consumers := []string{"near", "far", "mixed", "go-consumer"}
	w.step("consumers enrolled, and calls made", func() {
		for _, p := range []peer{
			{name: "near", node: "n2", image: javaImage, args: append(load, java)},
			{name: "far", node: "n1", image: javaImage, args: append(load, java)},
			{name: "mixed", node: "n2", image: javaImage, args: append(load, golang)},
			{name: "go-consumer", node: "n1", image: peerImage, args: []string{"load", java}},
		} {
			p.namespace = "java"
			w.run(p)
		}
		w.enrolled("java", "", 6)
		for _, consumer := range consumers {
			w.reached("java", consumer, 100)
		}
	})
	w.step("calls counted", func() { w.everywhere("java", consumers...) })
	w.encrypted("java")
	for consumer, provider := range map[string]string{"near": "java", "far": "java", "mixed": "go", "go-consumer": "java"} {
		if n, all := w.count("java", consumer, "answered-"+provider), w.count("java", consumer, "answered"); n != all {
			w.Errorf("of %d calls of %s %d were answered by %s", all, consumer, n, provider)
		}
	}
}

// java makes an image of a Java runtime with what Dubbo needs of it, and imports it.
func (w *world) java() {
	w.Helper()
	peers, err := filepath.Abs("../../../build/peers")
	w.must(err)
	runtime, dubbo := filepath.Join(peers, "jre"), filepath.Join(peers, "java-3.3.6")
	files := map[string]string{"jre": runtime, "app/classes": filepath.Join(dubbo, "classes"), "app/lib": filepath.Join(dubbo, "lib")}
	for _, library := range w.libraries(runtime) {
		files[strings.TrimPrefix(library, "/")] = library
	}
	w.image(&archive.Image{
		Name: javaImage,
		Entrypoint: []string{
			"/jre/bin/java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m",
			"--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.math=ALL-UNNAMED", "--add-opens=java.base/java.util=ALL-UNNAMED",
			"-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-Ddubbo.service.shutdown.wait=1000", "-cp", "/app/classes:/app/lib/*",
		},
	}, files)
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
