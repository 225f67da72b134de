/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lookup.h: take_lookup (sk_lookup), one instance in each enrolled network namespace.
 *
 * When:    a SYN arrives for which no established socket exists, before the
 *          kernel looks for a listener.
 * Reads:   inbound_ports, probes, listeners.
 * Writes:  nothing but the choice of the listener.
 * Verdict: SK_PASS, with the inbound listener assigned if something must act
 *          on this port and it is not kubelet that knocks; SK_DROP (the peer sees a reset) if that listener is gone:
 *          inbound is the boundary and fails closed.
 * Kernel:  5.9.
 */
#pragma once

/* is_probe: kubelet shows no certificate and has no identity, and what it is refused
 * restarts a pod. It is known by both ends of its connection, which only its own
 * socket can have: another program of the node meets the inbound listener.
 */
static __always_inline int is_probe(struct bpf_sk_lookup *ctx, const struct inbound_key *at, const __be32 remote[4])
{
	struct probe key = {.kubelet.port = ctx->remote_port, .pod.port = at->port};

	__builtin_memcpy(key.kubelet.addr, remote, sizeof(key.kubelet.addr));
	__builtin_memcpy(key.pod.addr, at->addr, sizeof(key.pod.addr));
	return bpf_map_lookup_elem(&probes, &key) != NULL;
}

static __always_inline enum outcome take(struct bpf_sk_lookup *ctx)
{
	struct inbound_key key = {.netns = lookup_netns};
	struct listener_key listener = {.netns = lookup_netns};
	struct bpf_sock *sk;
	__be32 remote[4];
	long err;

	if (ctx->protocol != IPPROTO_TCP)
		return lookup_passed;
	if (ctx->family == AF_INET6) {
		COPY_WORDS(key.addr, ctx->local_ip6);
		COPY_WORDS(remote, ctx->remote_ip6);
		APART();
	} else {
		set_addr4(key.addr, WORD(ctx->local_ip4));
		set_addr4(remote, WORD(ctx->remote_ip4));
	}
	/* A connection from the pod to itself is its own business. It is told by
	 * its addresses: the interface is not always lo.
	 */
	if (is_same(key.addr, remote) || is_loopback(remote))
		return lookup_self;

	key.port = bpf_htons((__u16)ctx->local_port);
	if (!key.port || !bpf_map_lookup_elem(&inbound_ports, &key))
		return lookup_passed;
	if (is_probe(ctx, &key, remote))
		return lookup_probe;

	listener.family = ctx->family;
	sk = bpf_map_lookup_elem(&listeners, &listener);
	if (!sk)
		return lookup_refused;
	err = bpf_sk_assign(ctx, sk, BPF_SK_LOOKUP_F_REPLACE);
	bpf_sk_release(sk);
	return err ? lookup_refused : lookup_assigned;
}

SEC("sk_lookup")
int take_lookup(struct bpf_sk_lookup *ctx)
{
	enum outcome outcome = take(ctx);

	count(outcome);
	return outcome == lookup_refused ? SK_DROP : SK_PASS;
}
