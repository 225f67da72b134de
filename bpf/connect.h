/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* connect.h: steer_connect4, steer_connect6 (cgroup/connect4, connect6).
 *
 * When:    in connect(), and in sendto(MSG_FASTOPEN), before the kernel looks at
 *          the address; not again while a connect is under way.
 * Reads:   workloads, destinations, sockets; inbound_ports and unknowns where a
 *          table counts or refuses what it does not know.
 * Writes:  sockets (role consumer), the address that is connected to; unknowns.
 * Verdict: 1, go on; to the outbound listener if steered. 0, an error, for an
 *          unknown destination that the table refuses: ECONNREFUSED or EPERM.
 * MPTCP:   the hook sees the subflow, a TCP socket, which is steered and falls
 *          back to TCP. name.h's hooks see the MPTCP socket, which has no state: to
 *          such a client its peer is 127.0.0.1:15001.
 * Kernel:  5.10 (sk_storage and netns cookie here).
 */
#pragma once

/* is_steered: the standings of what is aimed at the outbound listener. */
static __always_inline int is_steered(enum standing standing)
{
	return standing == known || standing == asked || standing == laned;
}

/* is_registry: the ports of registry, configuration and metadata centres
 * (ZooKeeper, Nacos) are steered only where an entry names them: one for every
 * port must not take a pod's discovery away. */
static __always_inline int is_registry(__u16 port)
{
	return port == bpf_htons(2181) || port == bpf_htons(8848) ||
	       port == bpf_htons(9848) || port == bpf_htons(9849);
}

static __always_inline enum standing standing_of(const struct endpoint *to, __u16 family, __u32 current)
{
	struct destination_key key = {
		.prefixlen = 8 * (sizeof(key) - sizeof(key.prefixlen)),
		.port = to->port,
		.family = family,
	};
	void *table = bpf_map_lookup_elem(&destinations, &current);
	struct destination *found;

	if (!table)
		return unknown_passes;
	__builtin_memcpy(key.addr, to->addr, sizeof(key.addr));
	found = bpf_map_lookup_elem(table, &key);
	if (found && is_steered(found->standing))
		return found->standing;
	key.port = 0;
	found = bpf_map_lookup_elem(table, &key);
	if (!found || ((found->standing == known || found->standing == laned) && is_registry(to->port)))
		return unknown_passes;
	return found->standing;
}

/* unknown: what is in no entry of a table that counts or refuses that. What a pod
 * does with itself or on its link is no business of a registry of services.
 */
static __always_inline enum outcome unknown(__u64 netns, const struct endpoint *to, enum standing standing)
{
	struct inbound_key own = {.netns = netns};
	struct unknown_key key = {.netns = netns, .to = *to};
	struct unknown none = {0}, *tally;

	if (standing == unknown_passes || is_link_local(to->addr))
		return no_destination;
	__builtin_memcpy(own.addr, to->addr, sizeof(own.addr));
	if (bpf_map_lookup_elem(&inbound_ports, &own))
		return no_destination;

	tally = bpf_map_lookup_elem(&unknowns, &key);
	if (!tally) {
		bpf_map_update_elem(&unknowns, &key, &none, BPF_NOEXIST);
		tally = bpf_map_lookup_elem(&unknowns, &key);
	}
	if (tally) {
		__sync_fetch_and_add(standing == unknown_barred ? &tally->refused : &tally->passed, 1);
		tally->last = bpf_ktime_get_ns();
	}
	return standing == unknown_barred ? unknown_refused : unknown_counted;
}

/* verdict_of: what the hook returns. The error of a refusal is ECONNREFUSED
 * where it can be chosen, as from an address where nobody listens.
 */
static __always_inline int verdict_of(enum outcome outcome)
{
	if (outcome != unknown_refused)
		return 1;
	if (refuse_by_errno)
		bpf_set_retval(-ECONNREFUSED);
	return 0;
}

/* workload_of: the kernel may give the memory of an entry that was just replaced to
 * another workload's while a program reads it. It writes from the front: who has read
 * the table and then finds another name asks again.
 */
static __always_inline struct workload *workload_of(__u64 netns, __u32 *table)
{
	struct workload *found = bpf_map_lookup_elem(&workloads, &netns);

	if (!found)
		return NULL;
	*table = WORD(found->table);
	if (*(volatile __u64 *)&found->netns == netns)
		return found;
	found = bpf_map_lookup_elem(&workloads, &netns);
	if (found)
		*table = WORD(found->table);
	return found;
}

static __always_inline enum outcome steer(struct bpf_sock_addr *ctx, const struct endpoint *to)
{
	struct bpf_sock *sk = ctx->sk;
	struct workload *workload;
	struct socket *socket;
	int v4 = is_mapped(to->addr);
	enum standing standing;
	__u32 table = 0;
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
	workload = workload_of(netns, &table);
	if (!workload)
		return not_enrolled;
	if (is_loopback(to->addr))
		return loopback;
	standing = standing_of(to, v4 ? AF_INET : AF_INET6, table);
	if (!is_steered(standing))
		return unknown(netns, to, standing);
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
	socket->flow.laned = standing == laned;
	socket->role = consumer;
	return standing == asked ? asked_steered : steered;
}

/* is_aimed: the two outcomes that change the address. */
static __always_inline int is_aimed(enum outcome outcome)
{
	return outcome == steered || outcome == asked_steered;
}

SEC("cgroup/connect4")
int steer_connect4(struct bpf_sock_addr *ctx)
{
	struct endpoint to = {.port = ctx->user_port};
	enum outcome outcome;

	set_addr4(to.addr, ctx->user_ip4);
	outcome = steer(ctx, &to);
	count(outcome);
	if (is_aimed(outcome)) {
		ctx->user_ip4 = LOOPBACK4;
		ctx->user_port = bpf_htons(outbound_port);
	}
	return verdict_of(outcome);
}

SEC("cgroup/connect6")
int steer_connect6(struct bpf_sock_addr *ctx)
{
	struct endpoint to = {.port = ctx->user_port};
	enum outcome outcome;

	COPY_WORDS(to.addr, ctx->user_ip6);
	outcome = steer(ctx, &to);
	count(outcome);
	if (is_aimed(outcome)) {
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
	return verdict_of(outcome);
}
