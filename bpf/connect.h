/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* connect.h: steer_connect4, steer_connect6 (cgroup/connect4, connect6).
 *
 * When:    in connect(), and in sendto(MSG_FASTOPEN), before the kernel looks at
 *          the address; not again while a connect is under way.
 * Reads:   workloads, destinations, sockets.
 * Writes:  sockets (role consumer), the address that is connected to.
 * Verdict: always 1, go on; to the outbound listener if steered.
 * MPTCP:   the hook sees the subflow, a TCP socket, which is steered and falls
 *          back to TCP. name.h's hooks see the MPTCP socket, which has no state: to
 *          such a client its peer is 127.0.0.1:15001.
 * Kernel:  5.10 (sk_storage and netns cookie here).
 */
#pragma once

/* is_registry: the ports of registry, configuration and metadata centres
 * (ZooKeeper, Nacos) are steered only where an entry names them: one for every
 * port must not take a pod's discovery away. */
static __always_inline int is_registry(__u16 port)
{
	return port == bpf_htons(2181) || port == bpf_htons(8848) ||
	       port == bpf_htons(9848) || port == bpf_htons(9849);
}

static __always_inline int is_destination(const struct endpoint *to, __u16 family)
{
	struct destination_key key = {
		.prefixlen = 8 * (sizeof(key) - sizeof(key.prefixlen)),
		.port = to->port,
		.family = family,
	};
	__u32 current = 0;
	void *table = bpf_map_lookup_elem(&destinations, &current);

	if (!table)
		return 0;
	__builtin_memcpy(key.addr, to->addr, sizeof(key.addr));
	if (bpf_map_lookup_elem(table, &key))
		return 1;
	if (is_registry(to->port))
		return 0;
	key.port = 0;
	return bpf_map_lookup_elem(table, &key) != NULL;
}

static __always_inline enum outcome steer(struct bpf_sock_addr *ctx, const struct endpoint *to)
{
	struct bpf_sock *sk = ctx->sk;
	struct workload *workload;
	struct socket *socket;
	int v4 = is_mapped(to->addr);
	__u64 netns;

	/* Another protocol's socket of the same type (SCTP) cannot reach a TCP
	 * listener.
	 */
	if (ctx->type != SOCK_STREAM || ctx->protocol != IPPROTO_TCP)
		return not_tcp;

	/* A socket may connect again after a failure: what it meant then must
	 * not be shown now, whatever becomes of this attempt.
	 */
	socket = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	if (socket) {
		if (socket->role == mesh)
			return exempt;
		socket->role = untouched;
	}

	netns = netns_of(ctx, sk);
	workload = bpf_map_lookup_elem(&workloads, &netns);
	if (!workload)
		return not_enrolled;
	if (is_loopback(to->addr))
		return loopback;
	if (!is_destination(to, v4 ? AF_INET : AF_INET6))
		return no_destination;
	if (!(workload->flags & (v4 ? steer_v4 : steer_v6)))
		return no_listener;
	if (sk->bound_dev_if && sk->bound_dev_if != LOOPBACK_IFINDEX)
		return bound_to_device;

	if (!socket)
		socket = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!socket)
		return storage_refused;
	if (v4)
		__builtin_memcpy(socket->flow.consumer.addr, workload->addr4, sizeof(workload->addr4));
	else
		__builtin_memcpy(socket->flow.consumer.addr, workload->addr6, sizeof(workload->addr6));
	socket->flow.consumer.port = 0; /* chosen later: sockops.h */
	socket->flow.destination = *to;
	socket->role = consumer;
	return steered;
}

SEC("cgroup/connect4")
int steer_connect4(struct bpf_sock_addr *ctx)
{
	struct endpoint to = {.port = ctx->user_port};
	enum outcome outcome;

	set_addr4(to.addr, ctx->user_ip4);
	outcome = steer(ctx, &to);
	count(outcome);
	if (outcome == steered) {
		ctx->user_ip4 = LOOPBACK4;
		ctx->user_port = bpf_htons(outbound_port);
	}
	return 1;
}

SEC("cgroup/connect6")
int steer_connect6(struct bpf_sock_addr *ctx)
{
	struct endpoint to = {.port = ctx->user_port};
	enum outcome outcome;

	COPY_WORDS(to.addr, ctx->user_ip6);
	outcome = steer(ctx, &to);
	count(outcome);
	if (outcome == steered) {
		/* A v4-mapped destination stays one: ::ffff:127.0.0.1. */
		if (is_mapped(to.addr)) {
			ctx->user_ip6[3] = LOOPBACK4;
		} else {
			ctx->user_ip6[0] = 0;
			ctx->user_ip6[1] = 0;
			ctx->user_ip6[2] = 0;
			ctx->user_ip6[3] = bpf_htonl(1);
		}
		ctx->user_port = bpf_htons(outbound_port);
	}
	return 1;
}
