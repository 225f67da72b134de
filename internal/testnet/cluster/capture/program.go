package capture

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// key is a connection, in the program's words. What is counted of it are the attempts to begin
// it: the kernel tries again where nobody answers.
type key struct {
	Pod    uint64   // its cgroup
	From   [16]byte // IPv4 as ::ffff:a.b.c.d
	Socket uint64   // its cookie
}

const (
	keySize = 32
	// Where the program has what, on its stack.
	keyAt    = -keySize
	fromAt   = keyAt + 8
	socketAt = fromAt + 16
	bytesAt  = keyAt - 8
	noneAt   = bytesAt - 8

	depth    = 12 // of a node's cgroup, at most
	podBelow = 3  // kubepods/CLASS/POD, of all classes but the guaranteed one, which no test has
	loopback = 1  // the number of every namespace's
	ifindex  = 40 // in struct __sk_buff
	tcp      = 6
	begins   = 0x02 // SYN, and not
	both     = 0x12 // ACK
)

// instructions are of a cgroup_skb/egress program, which the kernel runs for each packet of a
// socket that was made below the cgroup it is attached to, in whatever network that is, with the
// IP header first. It lets all pass, and counts what begins a connection to Port, is not to its
// own network's loopback, and was made in a pod. node is the number of the node's cgroup.
func instructions(seen int, node uint64) asm.Instructions {
	all := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, ifindex, asm.Word),
		asm.JEq.Imm(asm.R1, loopback, "out"),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, keyAt, asm.R1, asm.DWord),
		asm.StoreMem(asm.RFP, fromAt, asm.R1, asm.DWord),
		asm.StoreMem(asm.RFP, fromAt+8, asm.R1, asm.DWord),
		asm.StoreMem(asm.RFP, noneAt, asm.R1, asm.DWord),
	}
	all = append(all, load(0, bytesAt, 1)...)
	all = append(all,
		asm.LoadMem(asm.R1, asm.RFP, bytesAt, asm.Byte),
		asm.JEq.Imm(asm.R1, 0x45, "four"), // without options
		asm.RSh.Imm(asm.R1, 4),
		asm.JNE.Imm(asm.R1, 6, "out"),
	)
	all = append(all, segment(6, 40)...)
	all = append(all, load(8, fromAt, 16)...)
	all = append(all, asm.Ja.Label("count"))
	four := segment(9, 20)
	four[0] = four[0].WithSymbol("four")
	all = append(all, four...)
	all = append(all, asm.StoreImm(asm.RFP, fromAt+10, 0xffff, asm.Half))
	all = append(all, load(12, fromAt+12, 4)...)
	all = append(all,
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("count"),
		asm.FnGetSocketCookie.Call(),
		asm.StoreMem(asm.RFP, socketAt, asm.R0, asm.DWord),
	)
	for level := range int32(depth) {
		next := fmt.Sprint("level-", level+1)
		all = append(all,
			asm.Mov.Reg(asm.R1, asm.R6).WithSymbol(fmt.Sprint("level-", level)),
			asm.Mov.Imm(asm.R2, level),
			asm.FnSkbAncestorCgroupId.Call(),
			asm.LoadImm(asm.R1, int64(node), asm.DWord),
			asm.JNE.Reg(asm.R0, asm.R1, next),
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.Mov.Imm(asm.R2, level+podBelow),
			asm.FnSkbAncestorCgroupId.Call(),
			asm.JEq.Imm(asm.R0, 0, "out"),
			asm.StoreMem(asm.RFP, keyAt, asm.R0, asm.DWord),
			asm.Ja.Label("add"),
		)
	}
	all = append(all, asm.Ja.Label("out").WithSymbol(fmt.Sprint("level-", depth)))
	return append(all, add(seen)...)
}

// add counts one for the key on the stack, and lets the packet pass. Of two that are the first at
// once one makes the entry, and both are counted.
func add(seen int) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, seen).WithSymbol("add"),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, keyAt),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, noneAt),
		asm.Mov.Imm(asm.R4, int32(ebpf.UpdateNoExist)),
		asm.FnMapUpdateElem.Call(),
		asm.LoadMapPtr(asm.R1, seen),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, keyAt),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("out"),
		asm.Return(),
	}
}

// segment goes on with a segment of TCP that begins a connection to Port: where the header says
// which protocol it is, and how long it is.
func segment(protocol, header int32) asm.Instructions {
	all := load(protocol, bytesAt, 1)
	all = append(all, asm.LoadMem(asm.R1, asm.RFP, bytesAt, asm.Byte), asm.JNE.Imm(asm.R1, tcp, "out"))
	all = append(all, load(header+2, bytesAt, 2)...)
	all = append(all,
		asm.LoadMem(asm.R1, asm.RFP, bytesAt, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.JNE.Imm(asm.R1, Port, "out"),
	)
	all = append(all, load(header+13, bytesAt, 1)...)
	return append(all,
		asm.LoadMem(asm.R1, asm.RFP, bytesAt, asm.Byte),
		asm.And.Imm(asm.R1, both),
		asm.JNE.Imm(asm.R1, begins, "out"),
	)
}

// load puts bytes of the packet onto the stack.
func load(from int32, to, n int16) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, from),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(to)),
		asm.Mov.Imm(asm.R4, int32(n)),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "out"),
	}
}
