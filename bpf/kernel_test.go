package bpf

import (
	"maps"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// What kernel.h declares of the contexts is the kernel's ABI: every member must
// lie where the running kernel has the one of the same name.
func TestContextsLieWhereTheKernelHasThem(t *testing.T) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Skipf("kernel BTF (CONFIG_DEBUG_INFO_BTF): %v", err)
	}
	steer, err := LoadSteer()
	if err != nil {
		t.Fatal(err)
	}
	lane, err := LoadLane()
	if err != nil {
		t.Fatal(err)
	}
	for name, spec := range map[string]*ebpf.CollectionSpec{
		"bpf_sock_addr": steer, "bpf_sock_ops": steer, "bpf_sockopt": steer, "bpf_sk_lookup": steer, "sk_msg_md": lane,
	} {
		var ours, theirs *btf.Struct
		if err := spec.Types.TypeByName(name, &ours); err != nil {
			t.Errorf("%s of the programs: %v", name, err)
			continue
		}
		if err := kernel.TypeByName(name, &theirs); err != nil {
			t.Errorf("%s of the kernel: %v", name, err)
			continue
		}
		offsets := memberOffsets(theirs.Members, 0)
		compared := 0
		for _, m := range ours.Members {
			if m.Name == "pad" || m.Name == "unused" {
				continue
			}
			compared++
			if want, ok := offsets[m.Name]; !ok || m.Offset != want {
				t.Errorf("%s.%s at bit %d, the kernel has it at %d (known: %t)", name, m.Name, m.Offset, want, ok)
			}
		}
		if compared == 0 {
			t.Errorf("%s: no member compared", name)
		}
	}
}

// memberOffsets flattens anonymous unions.
func memberOffsets(members []btf.Member, base btf.Bits) map[string]btf.Bits {
	offsets := map[string]btf.Bits{}
	for _, m := range members {
		if m.Name != "" {
			offsets[m.Name] = base + m.Offset
			continue
		}
		if u, ok := btf.UnderlyingType(m.Type).(*btf.Union); ok {
			maps.Copy(offsets, memberOffsets(u.Members, base+m.Offset))
		}
	}
	return offsets
}

func TestOutboundPortIsTheProgramsOwn(t *testing.T) {
	spec, err := LoadSteer()
	if err != nil {
		t.Fatal(err)
	}
	var port uint16
	if err := spec.Variables[SteerVarOutboundPort].Get(&port); err != nil {
		t.Fatal(err)
	}
	if port != OutboundPort {
		t.Errorf("steer.c aims at port %d, Go says %d", port, OutboundPort)
	}
}
