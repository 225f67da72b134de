/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* probe.h: note_sockops (sockops), attached to kubelet's own cgroup and to no other.
 *
 * When:    TCP_CONNECT: the socket has its addresses, its SYN is not sent yet. So the
 *          entry is there before a pod can see the SYN. STATE to CLOSE: nobody
 *          can send for these ends any more, or only a TIME_WAIT's last ACK.
 * Reads:   nothing.
 * Writes:  probes.
 * Verdict: always 1; the reply is left alone.
 * Kernel:  5.10.
 */
#pragma once

static __always_inline void note(struct bpf_sock_ops *ctx)
{
	struct probe key;
	__u32 unused = 0;

	ends(ctx, &key.kubelet, &key.pod);
	if (is_loopback(key.pod.addr))
		return;
	/* Who is written down must be crossed out: without the call at the end the
	 * ends would pass for kubelet's when they are another's.
	 */
	if (bpf_sock_ops_cb_flags_set(ctx, WORD(ctx->bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_STATE_CB_FLAG))
		count(probe_full);
	else
		count(bpf_map_update_elem(&probes, &key, &unused, 0) ? probe_full : probe_noted);
}

SEC("sockops")
int note_sockops(struct bpf_sock_ops *ctx)
{
	struct probe key;

	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB) {
		note(ctx);
	} else if (ctx->op == BPF_SOCK_OPS_STATE_CB && ctx->args[1] == BPF_TCP_CLOSE) {
		ends(ctx, &key.kubelet, &key.pod);
		bpf_map_delete_elem(&probes, &key);
	}
	return 1;
}
