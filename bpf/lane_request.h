/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_request.h: on_request, of lane_msg: a consumer writes.
 *
 * When:    in a write to a consumer's socket, under its lock; again for the rest of a
 *          message of which a part was sent.
 * Reads:   lanes, lane_bound, lane_members, lane_routes; how much the provider has to read,
 *          and whether there is memory for more.
 * Writes:  lane_flights, lane_active, the lane's counts.
 * Verdict: the requests at the message's begin that have the same names go to one
 *          provider's socket, if each is whole in this message: whether there is memory
 *          for what comes later is not known now. What is not such a request goes to the
 *          proxy, with everything behind it.
 * Kernel:  6.1 (5.10 loses bytes behind bpf_msg_apply_bytes).
 */
#pragma once

#define BATCH_FRAMES 16
#define QUEUED_MAX (1 << 20) /* what a socket may have to read and still be sent more */

/* bound_of returns the sockets of the lane that a socket is in, NULL if it is in none. */
static __always_inline struct lane_binding *bound_of(struct lane_socket *self)
{
	struct lane_binding *bound;
	struct lane_member *member;
	struct lane_place *place;
	__u32 at = self->lane - 1;

	bound = bpf_map_lookup_elem(&lane_bound, &at);
	member = bound ? member_of(bound, self->end) : NULL;
	if (member && member->cookie == self->cookie)
		return bound;
	place = bpf_map_lookup_elem(&lane_members, &self->cookie);
	if (!place || !place->lane)
		return NULL;
	at = place->lane - 1;
	bound = bpf_map_lookup_elem(&lane_bound, &at);
	member = bound ? member_of(bound, place->end) : NULL;
	if (!member || member->cookie != self->cookie)
		return NULL;
	self->lane = at + 1;
	self->end = place->end;
	self->route = 0;
	lose(self);
	return bound;
}

/* widen has the kernel make the window as wide as a request's names want it. It is that
 * already unless a frame lies across two of a message's pieces.
 */
static __always_inline void widen(struct sk_msg_md *msg)
{
	__u64 want = msg->size;

	if (want > WINDOW_WANTED)
		want = WINDOW_WANTED;
	BOUND(want, WINDOW_WANTED);
	if (window(msg) + want > window_end(msg))
		bpf_msg_pull_data(msg, 0, want, 0);
}

/* fly writes a request down. No other program writes to a lane's free flights; the proxy
 * reads one when it has its key, which comes last.
 */
static __always_inline int fly(struct lane_flight *flight, const struct header *h, const struct lane_flight *as)
{
	if (*(volatile __u64 *)&flight->key || !(h->id + 1))
		return 0;
	flight->start = as->start;
	flight->route = as->route;
	flight->bytes = h->total;
	flight->end = as->end;
	flight->series = as->series;
	__sync_lock_test_and_set(&flight->key, h->id + 1);
	return 1;
}

/* is_call: a request that is read here, of one serialization. */
static __always_inline int is_call(const struct header *h, __u32 serialization)
{
	return kind_of(h) == (FRAME_CALL | serialization) && h->total <= FRAME_MAX;
}

/* free_flight returns the flight of a request, which no other program takes; NULL if it is
 * another's, or says something that the proxy has not read.
 */
static __always_inline struct lane_flight *free_flight(__u32 number, __u64 id)
{
	struct lane_flights *flights = bpf_map_lookup_elem(&lane_flights, &number);
	struct lane_flight *flight;

	if (!flights || !(id + 1))
		return NULL;
	flight = &flights->slots[id & (LANE_FLIGHTS - 1)];
	return *(volatile __u64 *)&flight->key || WORD(flight->end) & lane_drawn_any ? NULL : flight;
}

/* fly_all returns how many bytes of a message are requests that take the flight as, whose key
 * is the lane's number and whose bytes are the limit of those in flight to its cluster: the first
 * has entered. Where requests are drawn each has a verdict of its own.
 */
__attribute__((noinline)) __u32 fly_all(struct sk_msg_md *msg, struct lane *lane, struct lane_route *r, const struct lane_flight *as)
{
	void *data = window(msg), *end = window_end(msg);
	__u64 at = 0, off, size = msg->size, n = 0;
	struct lane_flights *flights;
	struct header h;
	__u32 number;

	if (!lane || !r || !as)
		return 0;
	number = as->key;
	if (size > WINDOW_MAX)
		size = WINDOW_MAX;
	flights = bpf_map_lookup_elem(&lane_flights, &number);
	if (!flights)
		return 0;
	for (int i = 0; i < BATCH_FRAMES; i++) {
		off = at;
		if (!BOUND(off, WINDOW_MAX) || !read_header(data + off, end, &h))
			break;
		if (i && (!is_call(&h, r->serialization) || at + h.total > size || !same_names(msg, at, as->route)))
			break;
		if (i && as->bytes && !enter(r, as->end, as->bytes))
			break;
		if (!fly(&flights->slots[h.id & (LANE_FLIGHTS - 1)], &h, as)) {
			if (as->bytes)
				leave(r, as->end);
			break;
		}
		n++;
		at += h.total;
		if (at >= size || r->flags & (lane_traced | lane_mixed))
			break;
	}
	lane->requests += n;
	if (r->flags & lane_counts_active)
		add_active(r, as->end, n);
	return at;
}

/* route_of returns the place of the route of the request at a message's begin, and 1. Mostly
 * it is that of the one before.
 */
static __always_inline __u32 route_of(struct sk_msg_md *msg, struct lane_socket *self, __u32 class, __u32 serialization)
{
	__u32 place = self->route - 1;
	struct lane_route *r;

	r = bpf_map_lookup_elem(&lane_routes, &place);
	if (!r || !r->hash || r->class != class || r->serialization != serialization || !same_names(msg, 0, place))
		self->route = find_route(msg, class, serialization);
	return self->route;
}

/* send_by has the requests at a message's begin take the lane by their route. It returns 0, or why
 * the message has to go to the proxy; what was drawn for the first one is in drawn then.
 */
static __always_inline enum lane_outcome send_by(struct sk_msg_md *msg, struct lane_socket *self, struct lane_binding *bound,
						 struct lane *lane, const struct header *h, struct lane_route *r, __u32 *drawn)
{
	struct lane_flight as = {.key = self->lane - 1, .route = self->route - 1};
	struct lane_member *provider;
	enum lane_outcome why;
	__u64 share, end;
	__u32 chosen, bytes;

	chosen = choose(as.route);
	share = chosen & lane_drawn_share;
	BOUND(share, LANE_SHARES - 1);
	as.bytes = r->shares[share].limit;
	if (r->flags & lane_mixed)
		*drawn = lane_drawn_any | lane_drawn_led | chosen;
	end = chosen >> LANE_DRAWN_NUMBER;
	if (!(chosen & lane_drawn_end) || !BOUND(end, LANE_ENDS - 1))
		return *drawn ? request_remote : request_unknown;
	if (!(WORD(lane->ends[end].flags) & lane_end_open))
		return request_unknown;
	provider = &bound->providers[end];
	if (!provider->cookie)
		return request_unknown;
	if (queued_at(provider->sk) > QUEUED_MAX) {
		lane->full++;
		return request_full;
	}
	as.start = bpf_ktime_get_ns();
	if (!has_room(provider, as.start, msg->size)) {
		lane->scarce++;
		return request_memory;
	}
	if (!aim(msg, self, &provider->cookie))
		return request_unknown;
	if (as.bytes && !enter(r, end, as.bytes)) {
		lane->full++;
		return request_limited;
	}
	why = r->flags & lane_traced ? trace(msg, r, h, drawn) : 0;
	if (why) {
		if (as.bytes)
			leave(r, end);
		return why;
	}
	as.end = end;
	as.series = r->series[end];
	bytes = fly_all(msg, lane, r, &as);
	if (!bytes) {
		lane->full++;
		return request_taken;
	}
	lane->last = as.start;
	bpf_msg_apply_bytes(msg, bytes);
	return 0;
}

/* send_requests returns 0, or why the message has to go to the proxy. Where something is drawn of
 * requests it is once for each: what goes to the proxy behind it says what was drawn, and for all
 * else the proxy draws.
 */
static __always_inline enum lane_outcome send_requests(struct sk_msg_md *msg, struct lane_socket *self,
						       struct lane_binding *bound, struct lane *lane)
{
	__u32 serialization, class = lane->class, place, drawn = 0;
	struct lane_flight *flight = NULL;
	enum lane_outcome why;
	struct lane_route *r;
	struct header h;

	widen(msg);
	if (!read_header(window(msg), window_end(msg), &h))
		return request_partial;
	serialization = kind_of(&h) & FRAME_SERIALIZATION;
	if (!is_call(&h, serialization) || (serialization != HESSIAN2 && serialization != FASTJSON2))
		return request_kind;
	if (h.total > msg->size)
		return request_partial;
	place = class ? route_of(msg, self, class, serialization) : 0;
	if (!place)
		return request_unknown;
	place--;
	r = bpf_map_lookup_elem(&lane_routes, &place);
	if (!r)
		return request_unknown;
	if (r->flags & (lane_traced | lane_mixed)) {
		flight = free_flight(self->lane - 1, h.id);
		if (!flight) {
			lane->full++;
			return request_taken;
		}
	}
	why = send_by(msg, self, bound, lane, &h, r, &drawn);
	if (why && drawn && flight) {
		*(volatile __u64 *)&flight->start = h.id + 1;
		*(volatile __u32 *)&flight->end = drawn;
	}
	return why;
}

static __always_inline int on_request(struct sk_msg_md *msg, struct lane_socket *self)
{
	__u32 at, skip, written = write_seq_at(self->sk);
	struct lane_binding *bound = bound_of(self);
	enum lane_outcome why;
	struct lane *lane;

	at = self->lane - 1;
	lane = bpf_map_lookup_elem(&lanes, &at);
	if (!bound || !lane) {
		lose(self);
		tell(request_unbound);
		return pass(msg, self);
	}
	skip = skip_of(self, &lane->course, written);
	if (skip) {
		lane->behind++;
		lane->slow++;
		tell(skip == ASTRAY ? request_astray : request_position);
		return pass_behind(msg, self, &lane->course, written, skip);
	}
	if (!(WORD(lane->flags) & lane_requests) || msg->sk->state != BPF_TCP_ESTABLISHED)
		why = request_closed;
	else
		why = send_requests(msg, self, bound, lane);
	if (!why)
		return SK_PASS;
	lane->slow++;
	tell(why);
	return pass_from(msg, self, written, 0);
}
