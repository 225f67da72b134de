/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* sockops.h: bridge_sockops (sockops).
 *
 * When:    TCP_CONNECT: the connecting socket has its addresses, its SYN is not
 *          sent yet (so TCP Fast Open, whose accepted socket is made by the SYN,
 *          finds its bridge too). PASSIVE_ESTABLISHED: the accepted socket
 *          exists, accept() has not returned it yet.
 * Reads:   sockets, bridges.
 * Writes:  bridges (TCP_CONNECT writes, PASSIVE_ESTABLISHED deletes), sockets (role
 *          accepted).
 * Verdict: always 1; the reply is left alone.
 * Kernel:  5.15 (netns cookie); 5.10 with netns_by_inode.
 */
#pragma once

static __always_inline void on_connect(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct socket *socket = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	struct bridge_key key;

	ends(ctx, &key.local, &key.remote);
	if (socket && socket->role == consumer) {
		socket->flow.consumer.port = key.local.port;
	} else if (!socket || socket->role != mesh || !socket->flow.consumer.port) {
		/* A steered connect that failed may have left an entry for these
		 * ports; nobody else may inherit it.
		 */
		if (!is_loopback(key.remote.addr) && !is_same(key.local.addr, key.remote.addr))
			return;
		key.netns = netns_of(ctx, sk);
		bpf_map_delete_elem(&bridges, &key);
		return;
	}
	key.netns = netns_of(ctx, sk);
	if (bpf_map_update_elem(&bridges, &key, &socket->flow, 0))
		count(bridge_full);
}

static __always_inline void on_accept(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct bridge_key key;
	struct socket *socket;
	struct flow *found, flow;

	ends(ctx, &key.remote, &key.local);
	key.netns = netns_of(ctx, sk);
	found = bpf_map_lookup_elem(&bridges, &key);
	if (!found) {
		if (key.remote.port == bpf_htons(outbound_port) && is_loopback(key.remote.addr) &&
		    bpf_map_lookup_elem(&workloads, &key.netns))
			count(direct);
		return;
	}
	flow = *found;
	bpf_map_delete_elem(&bridges, &key);
	socket = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!socket) {
		count(storage_refused);
		return;
	}
	socket->flow = flow;
	socket->role = accepted;
	count(bridged);
}

SEC("sockops")
int bridge_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk;

	/* Most calls are for neither, and some of those have no full socket. */
	if (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB && ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		on_connect(ctx, sk);
	else
		on_accept(ctx, sk);
	return 1;
}
