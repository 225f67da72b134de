//go:build e2e

package cluster_test

import (
	"debug/elf"
	"io/fs"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dubway/dubway/deploy/image/archive"
	"github.com/dubway/dubway/internal/testnet/cluster"
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
		w.run(peer{image: javaImage, namespace: "java", name: "provider", node: "n2", args: []string{"org.dubway.test.Provider", "20880", "j1"}, serves: true})
		provider := w.pods("java", "app=provider", cluster.Ready(1))[0]
		target := "target=" + net.JoinHostPort(provider.Addresses[0], "20880")
		w.run(peer{image: javaImage, namespace: "java", name: "consumer", node: "n1", args: []string{"org.dubway.test.Load", target}})
		w.run(peer{image: peerImage, namespace: "java", name: "go-consumer", node: "n1", args: []string{"load", target}})
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
