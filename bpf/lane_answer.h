/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_answer.h: on_answer, of lane_msg: a provider writes.
 *
 * When:    in a write to a provider's socket, under its lock; again for the rest of a
 *          message of which a part was sent.
 * Reads:   lanes, lane_bound, lane_members; how much the consumer has to read, and whether
 *          there is memory for more.
 * Writes:  lane_flights, lane_active, lane_tallies, lane_budgets, lane_log, the lane's counts.
 * Verdict: the answers at the message's begin go to the consumer's socket, if each is
 *          whole in this message (others write to the consumer too, and frames must not
 *          mix), is a value or nothing, and its request is in flight on this
 *          connection. What is not such an answer goes to the proxy, with everything
 *          behind it.
 * Kernel:  6.1.
 */
#pragma once

#define ANSWER_FRAMES 32
#define JSONB_BYTE 0xbd /* a whole number in the byte behind it */

/* is_plain: an answer whose body says that it is a value, or null: RESPONSE_VALUE,
 * RESPONSE_NULL_VALUE and these with attachments, a small number in the body's first
 * byte (hessian2), or behind its length (fastjson2), where Java writes it as a byte, in two.
 */
static __always_inline int is_plain(const struct header *h, void *body, void *end)
{
	__u32 kind = kind_of(h), first;

	if (status_of(h) != FRAME_OK || kind & FRAME_KINDS)
		return 0;
	if (kind == HESSIAN2) {
		if (body + 1 > end || h->total < FRAME_HEADER + 1)
			return 0;
		first = *(__u8 *)body - 0x90u;
	} else if (kind == FASTJSON2) {
		if (body + 5 > end || h->total < FRAME_HEADER + 5)
			return 0;
		first = *((__u8 *)body + 4);
		if (*(__u32 *)body == bpf_htonl(2)) {
			if (first != JSONB_BYTE || body + 6 > end || h->total < FRAME_HEADER + 6)
				return 0;
			first = *((__u8 *)body + 5);
		} else if (*(__u32 *)body != bpf_htonl(1)) {
			return 0;
		}
	} else {
		return 0;
	}
	return first == 1 || first == 2 || first == 4 || first == 5;
}

/* land ends a request that is in flight on this end, and counts it: false if it is not.
 * What was read of a flight is its own if its key was changed by who read it.
 */
__attribute__((noinline)) int land(__u64 id, __u64 now, __u32 number, __u32 end, __u32 bytes)
{
	struct lane_flights *flights = bpf_map_lookup_elem(&lane_flights, &number);
	struct lane *lane = bpf_map_lookup_elem(&lanes, &number);
	struct lane_flight *at, f;
	struct lane_route *r;

	if (!flights || !lane)
		return 0;
	at = &flights->slots[id & (LANE_FLIGHTS - 1)];
	f.key = *(volatile __u64 *)&at->key;
	if (!f.key || f.key != id + 1)
		return 0;
	f.start = at->start;
	f.route = at->route;
	f.bytes = at->bytes;
	f.end = at->end;
	f.series = at->series;
	if (f.end != (end & 0xff) || __sync_val_compare_and_swap(&at->key, f.key, 0) != f.key)
		return 0;
	tally_call(&f, now - f.start, bytes);
	if (WORD(lane->flags) & lane_logged)
		log_call(number, &f, now, bytes, end >> 8);
	r = bpf_map_lookup_elem(&lane_routes, &f.route);
	if (r && r->flags & lane_counts_active)
		add_active(r, f.end, -1);
	if (r && r->flags & lane_limited)
		leave(r, f.end);
	return 1;
}

/* land_all returns how many bytes of a message are answers that take the lane. */
static __always_inline __u32 land_all(struct sk_msg_md *msg, struct lane_socket *self, struct lane *lane, __u64 now)
{
	void *data = window(msg), *end = window_end(msg);
	__u64 at = 0, off, size = msg->size, n = 0;
	struct header h;

	for (int i = 0; i < ANSWER_FRAMES; i++) {
		off = at;
		if (!BOUND(off, WINDOW_MAX) || !read_header(data + off, end, &h))
			break;
		if (h.total > size - at || !is_plain(&h, data + off + FRAME_HEADER, end))
			break;
		if (!land(h.id, now, self->lane - 1, self->end | kind_of(&h) << 8, h.total))
			break;
		n++;
		at += h.total;
		if (at >= size)
			break;
	}
	add(&lane->answers, n);
	return at;
}

/* send_answers returns 0, or why the message has to go to the proxy. */
static __always_inline enum lane_outcome send_answers(struct sk_msg_md *msg, struct lane_socket *self,
						      struct lane_binding *bound, struct lane *lane)
{
	__u64 now = bpf_ktime_get_ns();
	struct header h;
	__u32 bytes;

	widen(msg);
	if (!read_header(window(msg), window_end(msg), &h) || h.total > msg->size)
		return answer_partial;
	if (!is_plain(&h, window(msg) + FRAME_HEADER, window_end(msg)))
		return answer_kind;
	if (queued_at(bound->consumer.sk) > QUEUED_MAX) {
		add(&lane->full, 1);
		return answer_full;
	}
	if (!has_room(&bound->consumer, now, msg->size)) {
		add(&lane->scarce, 1);
		return answer_memory;
	}
	if (!bound->consumer.cookie || !aim(msg, self, &bound->consumer.cookie))
		return answer_gone;
	bytes = land_all(msg, self, lane, now);
	if (!bytes)
		return answer_unknown;
	bpf_msg_apply_bytes(msg, bytes);
	return 0;
}

static __always_inline int on_answer(struct sk_msg_md *msg, struct lane_socket *self)
{
	__u32 at, flags, skip, written = write_seq_at(self->sk);
	struct lane_binding *bound = bound_of(self);
	enum lane_outcome why;
	struct lane *lane;
	__u64 end = self->end;

	at = self->lane - 1;
	lane = bpf_map_lookup_elem(&lanes, &at);
	if (!bound || !lane || !BOUND(end, LANE_ENDS - 1)) {
		lose(self);
		tell(answer_unbound);
		return pass(msg, self);
	}
	skip = skip_of(self, &lane->ends[end].course, written);
	if (skip) {
		add(&lane->returned, 1);
		tell(skip == ASTRAY ? answer_astray : answer_position);
		return pass_behind(msg, self, &lane->ends[end].course, written, skip);
	}
	flags = WORD(lane->flags);
	if (!(flags & lane_answers) || flags & lane_paused || msg->sk->state != BPF_TCP_ESTABLISHED)
		why = answer_closed;
	else
		why = send_answers(msg, self, bound, lane);
	if (!why)
		return SK_PASS;
	add(&lane->returned, 1);
	tell(why);
	return pass_from(msg, self, written, 0);
}
