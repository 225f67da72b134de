/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_sockops.h: join_sockops (sockops).
 *
 * When:    TCP_CONNECT: a consumer's socket that was steered to a laned destination, or
 *          one of the proxy's that the agent marked, has its addresses. ESTABLISHED:
 *          either has a peer. STATE to CLOSE: nobody writes to it any more.
 * Reads:   sockets (of steer.c), lane_workloads, lane_bridges, lane_gates.
 * Writes:  lane_states, lane_bridges, lane_sockets, lane_members, lane_peers; lane_bound
 *          at CLOSE.
 * Verdict: always 1; the reply is left alone.
 * Kernel:  5.15 (netns cookie); it is loaded with the lane only: 6.1.
 */
#pragma once

/* know makes a socket's state, or renews it: a socket may connect again. */
static __always_inline struct lane_socket *know(struct bpf_sock_ops *ctx, struct bpf_sock *sk, enum lane_role role)
{
	struct lane_socket *self = bpf_sk_storage_get(&lane_states, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (!self) {
		tell(lane_storage_refused);
		return NULL;
	}
	self->role = role;
	self->lane = 0;
	self->astray = 1;
	self->guessing = 0;
	self->redirected = 0;
	self->route = 0;
	self->cookie = bpf_get_socket_cookie(ctx);
	self->sk = (__u64)bpf_skc_to_tcp_sock(sk);
	self->peer = 0;
	return self;
}

/* is_laned: a steered consumer's socket whose requests may take a lane. */
static __always_inline int is_laned(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct socket *socket = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	__u64 netns;

	if (!socket || socket->role != consumer || !socket->flow.laned)
		return 0;
	netns = bpf_get_netns_cookie(ctx);
	return bpf_map_lookup_elem(&lane_workloads, &netns) != NULL;
}

static __always_inline void on_connect(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct lane_socket *self = bpf_sk_storage_get(&lane_states, sk, NULL, 0);
	struct lane_bridge bridge = {0};
	struct bridge_key key;

	if (self && self->role == lane_marked)
		self = know(ctx, sk, lane_marked);
	else if (is_laned(ctx, sk))
		self = know(ctx, sk, lane_consumer);
	else {
		if (self)
			self->role = lane_nobody;
		return;
	}
	if (!self)
		return;
	ends(ctx, &key.local, &key.remote);
	key.netns = bpf_get_netns_cookie(ctx);
	bridge.cookie = self->cookie;
	bridge.role = self->role;
	if (bpf_map_update_elem(&lane_bridges, &key, &bridge, 0))
		tell(lane_bridge_full);
}

/* join puts an application's socket among those that lanes may use. Who cannot be crossed
 * out at its end does not join.
 */
static __always_inline int join(struct bpf_sock_ops *ctx, struct lane_socket *self)
{
	struct lane_place place = {.sk = self->sk};

	if (bpf_sock_ops_cb_flags_set(ctx, WORD(ctx->bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_STATE_CB_FLAG))
		return 0;
	return !bpf_sock_hash_update(ctx, &lane_sockets, &self->cookie, BPF_NOEXIST) &&
	       !bpf_map_update_elem(&lane_members, &self->cookie, &place, 0);
}

static __always_inline void on_established(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct lane_socket *self = bpf_sk_storage_get(&lane_states, sk, NULL, 0);

	if (!self || self->role != lane_consumer)
		return;
	/* A socket that connects has its cgroup, one that is accepted not yet. */
	if (is_counted(self->sk))
		tell(lane_consumer_limited);
	else if (is_shut())
		tell(lane_consumer_scarce);
	else
		tell(join(ctx, self) ? lane_consumer_joined : lane_consumer_refused);
}

static __always_inline void on_accepted(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct lane_bridge *found, bridge;
	struct lane_socket *self;
	struct lane_place *place;
	struct bridge_key key;

	ends(ctx, &key.remote, &key.local);
	key.netns = bpf_get_netns_cookie(ctx);
	found = bpf_map_lookup_elem(&lane_bridges, &key);
	if (!found)
		return;
	bridge = *found;
	bpf_map_delete_elem(&lane_bridges, &key);
	if (bridge.role == lane_consumer) {
		self = know(ctx, sk, lane_accepted);
		if (!self)
			return;
		self->peer = bridge.cookie;
		/* The consumer's joined nothing, or not yet (Fast Open): nor does this one, and
		 * without it that is bound to no lane.
		 */
		place = bpf_map_lookup_elem(&lane_members, &bridge.cookie);
		if (!place || is_shut())
			return;
		if (bpf_sock_hash_update(ctx, &lane_sockets, &self->cookie, BPF_NOEXIST))
			self->role = lane_nobody;
		else
			place->accepted = self->cookie;
		return;
	}
	self = know(ctx, sk, lane_provider);
	if (!self)
		return;
	self->peer = bridge.cookie;
	if (is_shut() || !join(ctx, self) || bpf_map_update_elem(&lane_peers, &bridge.cookie, &self->cookie, 0))
		tell(lane_provider_refused);
	else
		tell(lane_provider_joined);
}

/* on_close crosses an application's socket out. */
static __always_inline void on_close(struct bpf_sock *sk)
{
	struct lane_socket *self = bpf_sk_storage_get(&lane_states, sk, NULL, 0);
	struct lane_place *place;
	struct lane_binding *bound;
	struct lane_member *member;
	__u32 lane;

	if (!self || (self->role != lane_consumer && self->role != lane_provider))
		return;
	place = bpf_map_lookup_elem(&lane_members, &self->cookie);
	if (place && place->lane) {
		lane = place->lane - 1;
		bound = bpf_map_lookup_elem(&lane_bound, &lane);
		member = bound ? member_of(bound, place->end) : NULL;
		if (member && member->cookie == self->cookie)
			member->cookie = 0;
	}
	bpf_map_delete_elem(&lane_members, &self->cookie);
	if (self->role == lane_provider)
		bpf_map_delete_elem(&lane_peers, &self->peer);
	self->role = lane_nobody;
}

SEC("sockops")
int join_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk;
	__u32 op = ctx->op;

	/* Most calls are for none of these, and some of those have no full socket. */
	if (op != BPF_SOCK_OPS_TCP_CONNECT_CB && op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
	    op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && op != BPF_SOCK_OPS_STATE_CB)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	if (op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		on_connect(ctx, sk);
	else if (op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		on_established(ctx, sk);
	else if (op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		on_accepted(ctx, sk);
	else if (ctx->args[1] == BPF_TCP_CLOSE)
		on_close(sk);
	return 1;
}
