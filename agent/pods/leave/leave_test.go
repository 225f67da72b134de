package leave

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

var opts = Options{Namespace: "dubway-system", DaemonSet: "dubway", Pod: "dubway-a"}

// cluster is an API server with one DaemonSet and pods, of which the last is somebody
// else's with the same labels.
func cluster(annotations map[string]string) *fake.Clientset {
	labels := map[string]string{"app": "dubway"}
	set := &apps.DaemonSet{
		ObjectMeta: meta.ObjectMeta{Name: "dubway", Namespace: "dubway-system", UID: "u1", Annotations: annotations},
		Spec:       apps.DaemonSetSpec{Selector: &meta.LabelSelector{MatchLabels: labels}},
	}
	pod := func(name, node string) *core.Pod {
		return &core.Pod{
			ObjectMeta: meta.ObjectMeta{Name: name, Namespace: "dubway-system", Labels: labels,
				OwnerReferences: []meta.OwnerReference{{UID: set.UID}}},
			Spec: core.PodSpec{NodeName: node},
		}
	}
	stranger := pod("stranger", "b")
	stranger.OwnerReferences = nil
	return fake.NewClientset(set, pod("dubway-a", "a"), pod("dubway-b", "b"), stranger)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain: %s", what)
}

// TestWatch: the order is heard at once and as it changes, and only the word is one.
func TestWatch(t *testing.T) {
	client := cluster(nil)
	o := &Orders{opts: opts, client: client}
	said := make(chan bool, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Watch(ctx, func(leave bool) { said <- leave }) }()
	if <-said {
		t.Error("it is to leave without an order")
	}
	for _, c := range []struct {
		value string
		want  bool
	}{{"true", true}, {"no", false}, {"true", true}, {"", false}} {
		// The watch may not have begun: the fake tells of no change before it.
		eventually(t, "order "+c.value, func() bool {
			set, err := client.AppsV1().DaemonSets(opts.Namespace).Get(ctx, opts.DaemonSet, meta.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			set.Annotations = map[string]string{Ordered: c.value}
			if _, err := client.AppsV1().DaemonSets(opts.Namespace).Update(ctx, set, meta.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-said:
				return got == c.want
			case <-time.After(100 * time.Millisecond):
				return false
			}
		})
	}
	cancel()
	_ = done // the fake's watch does not end with its context
	if err := (&Orders{opts: Options{Namespace: "none", DaemonSet: "none"}, client: client}).Report(t.Context(), true); err == nil {
		t.Error("reported for a pod that is not there")
	}
}

// TestCommand: the order is given, and the command ends when all pods of the DaemonSet
// have reported, and names those that have not.
func TestCommand(t *testing.T) {
	client := cluster(map[string]string{"a": "b"})
	if _, err := command(t.Context(), client, opts, 50*time.Millisecond); err == nil ||
		!strings.Contains(err.Error(), "dubway-a on a, dubway-b on b;") || strings.Contains(err.Error(), "stranger") {
		t.Errorf("nobody has left: %v", err)
	}
	set, err := client.AppsV1().DaemonSets(opts.Namespace).Get(t.Context(), opts.DaemonSet, meta.GetOptions{})
	if err != nil || !orders(set) || set.Annotations["a"] != "b" {
		t.Errorf("the order is %v, %v", set.Annotations, err)
	}
	report := func(name string, left bool) {
		t.Helper()
		o := &Orders{opts: opts, client: client}
		o.opts.Pod = name
		if err := o.Report(t.Context(), left); err != nil {
			t.Fatal(err)
		}
	}
	report("dubway-a", true)
	report("dubway-b", true)
	report("dubway-a", false) // it has come back
	if _, err := command(t.Context(), client, opts, 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), ": dubway-a on a;") {
		t.Errorf("one has not left: %v", err)
	}
	var n atomic.Int64
	go func() {
		left, err := command(t.Context(), client, opts, time.Minute)
		if err != nil {
			left = -1
		}
		n.Store(int64(left))
	}()
	report("dubway-a", true)
	eventually(t, "the command ends", func() bool { return n.Load() != 0 })
	if got := n.Load(); got != 2 {
		t.Errorf("%d have left, want 2", got)
	}
	if _, err := command(t.Context(), client, Options{Namespace: "dubway-system", DaemonSet: "x"}, time.Minute); err == nil {
		t.Error("ordered a DaemonSet that is not there")
	}
}

func TestNewNeedsPod(t *testing.T) {
	if _, err := New(Options{DaemonSet: "dubway"}); err == nil || !strings.Contains(err.Error(), "POD_NAMESPACE") {
		t.Errorf("New = %v", err)
	}
}
