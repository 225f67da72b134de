/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_ask.h: ask_sockopt (cgroup/getsockopt).
 *
 * When:    after the kernel's own getsockopt(), which knows no such level.
 * Reads:   lane_states, lane_peers, lane_members, lane_gates; of the peer's socket what
 *          lane_kernel.h and lane_room.h read.
 * Writes:  the answer (struct lane_state); for a binding lane_bound and lane_members.
 * Verdict: always 1. Only sockets of the proxy's have an answer: an accepted consumer's, or
 *          one that the agent marked. So which application's socket a lane uses is said
 *          by who holds its other end, and by nobody else.
 * Kernel:  5.10; it is loaded with the lane only: 6.1.
 */
#pragma once

/* peer_of returns the cookie of the application's socket at the other end, 0: none. */
static __always_inline __u64 peer_of(struct lane_socket *self)
{
	__u64 *found;

	if (self->role == lane_accepted)
		return self->peer;
	found = bpf_map_lookup_elem(&lane_peers, &self->cookie);
	return found ? *found : 0;
}

static __always_inline void describe(struct lane_socket *self, __u64 peer, __u64 sk, struct lane_state *state)
{
	struct lane_member now = {0};
	__s32 unread;

	state->cookie = self->cookie;
	state->peer = peer;
	state->holders = 0;
	state->queued = 0;
	state->unread = 0;
	state->copied = copied_seq_at(self->sk);
	state->flags = lane_charged ? lane_state_charged : 0;
	state->pad = 0;
	if (!peer || cookie_at(sk) != peer)
		return;
	state->holders = holders_at(sk);
	state->queued = queued_at(sk);
	now.sk = sk;
	if (!has_room(&now, 0, LANE_PAUSE_BYTES))
		state->flags |= lane_state_scarce;
	if (is_counted(sk))
		state->flags |= lane_state_limited;
	unread = write_seq_at(self->sk) - copied_seq_at(sk);
	state->unread = unread > 0 ? unread : 0;
}

/* bind makes the peer that of a lane, at end. Who was bound there before is in it no
 * more. The address comes before the cookie, by which it is found.
 */
static __always_inline int bind(struct lane_socket *self, __u64 peer, struct lane_place *place, __u32 lane, __u32 end)
{
	struct lane_binding *bound = bpf_map_lookup_elem(&lane_bound, &lane);
	struct lane_member *member;

	if (!bound)
		return 0;
	member = member_of(bound, end);
	if (!member || (self->role == lane_accepted) != (end == lane_consumer_end))
		return 0;
	if (self->role == lane_accepted && place->accepted != self->cookie)
		return 0; /* what the proxy writes would overtake what the lane brings */
	*(volatile __u64 *)&member->cookie = 0;
	member->sk = place->sk;
	member->until = 0;
	place->end = end;
	place->lane = lane + 1;
	self->end = end;
	self->lane = lane + 1;
	*(volatile __u64 *)&member->cookie = peer;
	tell(end == lane_consumer_end ? lane_bound_consumer : lane_bound_provider);
	return 1;
}

/* free_lane leaves the lane that a socket is bound to without sockets. Their own notes of
 * it hold no more.
 */
static __always_inline int free_lane(struct lane_socket *self, __u32 lane)
{
	struct lane_binding *bound = bpf_map_lookup_elem(&lane_bound, &lane);

	if (!bound || self->lane != lane + 1)
		return 0;
	self->lane = 0;
	for (int i = 0; i < LANE_ENDS; i++)
		*(volatile __u64 *)&bound->providers[i].cookie = 0;
	*(volatile __u64 *)&bound->consumer.cookie = 0;
	tell(lane_freed);
	return 1;
}

SEC("cgroup/getsockopt")
int ask_sockopt(struct bpf_sockopt *ctx)
{
	struct lane_state *state = ctx->optval;
	struct lane_place *place = NULL;
	struct lane_socket *self;
	__u32 question = ctx->level, lane = (__u32)ctx->optname >> 8, end = ctx->optname & 0xff;
	__u64 peer;

	if (question != lane_ask_state && question != lane_ask_bind && question != lane_ask_free) {
		/* The kernel copied only a page of a long answer here; with no
		 * length it leaves what it wrote itself.
		 */
		if (ctx->optlen > PAGE_SIZE)
			ctx->optlen = 0;
		return 1;
	}
	if ((void *)(state + 1) > ctx->optval_end || !ctx->sk)
		return 1;
	self = bpf_sk_storage_get(&lane_states, ctx->sk, NULL, 0);
	if (!self || (self->role != lane_accepted && self->role != lane_marked))
		return 1;
	peer = peer_of(self);
	if (peer)
		place = bpf_map_lookup_elem(&lane_members, &peer);
	if (!place)
		peer = 0;
	if (question == lane_ask_bind && (!place || is_shut() || !bind(self, peer, place, lane, end)))
		return 1;
	if (question == lane_ask_free && !free_lane(self, lane))
		return 1;
	describe(self, peer, place ? place->sk : 0, state);
	ctx->optlen = sizeof(*state);
	APART();
	ctx->retval = 0;
	return 1;
}
