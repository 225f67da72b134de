package xds

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/snapshot/destinations"
)

// FuzzLoad reads any bytes as a file of xDS. Whatever is accepted must be
// consistent, whatever is rejected must say where and why, and reading the same
// again must change nothing.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/golden/*.yaml", "testdata/rejected/*.yaml", "testdata/istiod/plain-name-dubbo/*.json"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			f.Fatalf("no seeds %s: %v", pattern, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
			for _, one := range strings.SplitAfter(string(text), "\n- ") {
				f.Add([]byte("- " + strings.TrimSuffix(one, "\n- ")))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		texts := []text{{file: "x.yaml", data: data}}
		first, rejected := newSet().following(texts)
		s := first.snapshot()
		consistent(t, s)
		for _, r := range rejected {
			if r.File == "" || r.Kind == "" && r.Field != "@type" || r.Reason == "" {
				t.Errorf("rejection without a place or a reason: %+v", r)
			}
		}
		again, rejectedAgain := first.following([]text{{file: "x.yaml", data: data}})
		if again.tables != first.tables || fmt.Sprint(rejected) != fmt.Sprint(rejectedAgain) {
			t.Error("reading the same again changes something")
		}
		fresh, _ := newSet().following(texts)
		if dump(fresh.snapshot()) != dump(s) {
			t.Error("reading the same twice gives two snapshots")
		}
		kept, _ := first.following([]text{{file: "x.yaml", err: os.ErrPermission}})
		if kept.tables != first.tables || !reflect.DeepEqual(destinations.Of(kept.snapshot()), destinations.Of(s)) {
			t.Error("an unreadable file takes its resources with it")
		}
	})
}
