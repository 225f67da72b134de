package selftest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/dubway/dubway/agent/datapath/host"
	agent "github.com/dubway/dubway/agent/datapath/lane"
	"github.com/dubway/dubway/bpf"
)

// cgroup makes one; the process joins it for as long as the test runs.
func cgroup(t *testing.T) (dir string) {
	t.Helper()
	root, err := host.FindCgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(root, fmt.Sprintf("dubway-selftest-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func join(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRun: lanes work on the kernels that tests run on.
func TestRun(t *testing.T) {
	dir := cgroup(t)
	join(t, dir)
	t.Cleanup(func() { join(t, filepath.Dir(dir)) })
	for range 3 {
		if err := Run(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSpoilt: programs that do without one of their cures fail, where it is for.
func TestSpoilt(t *testing.T) {
	dir := cgroup(t)
	join(t, dir)
	t.Cleanup(func() { join(t, filepath.Dir(dir)) })
	types := btf.NewCache()
	for name, test := range map[string]struct {
		call  asm.BuiltinFunc
		flags int64 // in R4, of a redirect
		is    int64 // what is returned in its place
		want  string
	}{
		"a verdict is not bounded":             {asm.FnMsgApplyBytes, -1, 0, "many requests in one write: "},
		"a redirect holds for what follows":    {asm.FnMsgRedirectHash, 0, 1, "an unknown request between known ones: "},
		"nothing is ever sent to another":      {asm.FnMsgRedirectHash, 1, 0, "a request and its answer: "},
		"sockets do not come into the map":     {asm.FnSockHashUpdate, -1, -1, "sockets join the lanes' map: "},
		"nothing can be read of other sockets": {asm.FnProbeReadKernel, -1, -14, ""},
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := bpf.LoadLane()
			if err != nil {
				t.Fatal(err)
			}
			spoilt := 0
			for _, p := range spec.Programs {
				spoilt += spoil(p.Instructions, test.call, test.flags, test.is)
			}
			if spoilt == 0 {
				t.Fatal("no program has such a call")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if err := try(ctx, spec, agent.Options{Cgroup: dir, Types: types}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the test says %v, want %q", err, test.want)
			}
		})
	}
}

// spoil replaces the calls of a function by what it would return, and counts them. Flags
// of -1 are any.
func spoil(program asm.Instructions, call asm.BuiltinFunc, flags, is int64) (n int) {
	var last int64
	for i := range program {
		ins := &program[i]
		if ins.OpCode.Class().IsALU() && ins.OpCode.ALUOp() == asm.Mov && ins.Dst == asm.R4 && ins.OpCode.Source() == asm.ImmSource {
			last = ins.Constant
		}
		if !ins.IsBuiltinCall() || asm.BuiltinFunc(ins.Constant) != call || flags >= 0 && last != flags {
			continue
		}
		*ins = asm.Mov.Imm(asm.R0, int32(is)).WithMetadata(ins.Metadata)
		n++
	}
	return n
}

func TestElsewhere(t *testing.T) {
	err := Run(t.Context(), cgroup(t))
	if err == nil || !strings.Contains(err.Error(), "below the cgroup") {
		t.Errorf("a cgroup that the process is not in: %v", err)
	}
}
