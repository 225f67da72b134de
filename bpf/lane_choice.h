/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_choice.h: which endpoint of its route a request is for, as l7proxy/cluster chooses
 * (pool.go). Some may be elsewhere, or for another reason the proxy's: what is drawn for one
 * goes to the proxy, which is told.
 *
 * Reads:  lane_routes, lane_active.
 * Writes: the cursor of a share.
 * Kernel: 6.1.
 */
#pragma once

/* choice is what is drawn for a turn, or at random, of those that are the lane's own. */
static __always_inline __u32 choice(struct lane_share *s, __u64 i)
{
	if (!BOUND(i, LANE_CHOICES - 1))
		return 0;
	return lane_drawn_end | (__u32)s->choices[i] << LANE_DRAWN_NUMBER;
}

#define ANYBODY_THERE (lane_drawn_there | LANE_DRAWN_ANYBODY << LANE_DRAWN_NUMBER)

/* in_turn: turns of endpoints elsewhere are as far apart as may be, and the others are those
 * of the choices.
 */
static __always_inline __u32 in_turn(struct lane_share *s)
{
	__u32 turn = __sync_fetch_and_add(&s->cursor, 1);
	__u64 there = (__u64)turn * s->beyond;

	if ((__u32)there < s->beyond)
		return ANYBODY_THERE;
	return choice(s, (turn - (__u32)(there >> 32)) % s->count);
}

static __always_inline __u32 at_random(struct lane_share *s)
{
	if (s->beyond && bpf_get_prandom_u32() < s->beyond)
		return ANYBODY_THERE;
	return s->count == 1 ? choice(s, 0) : choice(s, bpf_get_prandom_u32() % s->count);
}

/* candidate is what is drawn for a candidate of a share; nobody: the proxy chooses anew. */
static __always_inline __u32 candidate(struct lane_route *r, struct lane_share *s, __u64 i)
{
	__u32 end;

	if (!BOUND(i, LANE_CANDIDATES - 1))
		return 0;
	end = r->candidates[i].end;
	if (end < LANE_ENDS)
		return lane_drawn_end | end << LANE_DRAWN_NUMBER;
	return lane_drawn_there | (__u32)(i - s->first) << LANE_DRAWN_NUMBER;
}

static __always_inline __u64 load_of(struct lane_candidate *c)
{
	__u32 number = c->active;
	__u64 *word = number ? bpf_map_lookup_elem(&lane_active, &number) : NULL;

	return word ? in_flight(*(volatile __u64 *)word) : 0;
}

/* least takes the first of those with the least in flight. A draw that falls on one which is
 * left alone counts for nothing.
 */
static __always_inline __u32 least(struct lane_route *r, struct lane_share *s)
{
	__u64 best = LANE_CANDIDATES, lowest = ~0ull, load, i;

	for (int n = 0; n < LANE_DRAWS; n++) {
		if (n >= s->draws)
			break;
		i = s->first + bpf_get_prandom_u32() % s->count;
		if (!BOUND(i, LANE_CANDIDATES - 1))
			break;
		if (!r->candidates[i].weight)
			continue;
		load = load_of(&r->candidates[i]);
		if (load < lowest) {
			lowest = load;
			best = i;
		}
	}
	return candidate(r, s, best);
}

#define WEIGHT_BITS 20 /* of a candidate's weight, and behind the point of what is shared by */

/* weight_of is a candidate's part of what is shared; 0: it is left alone. Of its own, it is
 * verified once.
 */
__attribute__((noinline)) __u64 weight_of(__u32 place, __u32 number)
{
	struct lane_route *r = bpf_map_lookup_elem(&lane_routes, &place);
	__u64 i = number;

	if (!r || !BOUND(i, LANE_CANDIDATES - 1))
		return 0;
	return ((__u64)r->candidates[i].weight << WEIGHT_BITS) / (load_of(&r->candidates[i]) + 1);
}

/* weighed goes over the candidates once: each takes it from those before with its part of what
 * they all have so far.
 */
static __always_inline __u32 weighed(struct lane_route *r, struct lane_share *s, __u32 place)
{
	__u64 best = LANE_CANDIDATES, all = 0, part, word;

	for (int n = 0; n < LANE_WEIGHED; n++) {
		if (n >= s->count)
			break;
		part = weight_of(place, s->first + n);
		if (!part)
			continue;
		all += part;
		word = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
		if (word % all < part)
			best = (s->first + n) & (LANE_CANDIDATES - 1);
	}
	return candidate(r, s, best);
}

/* choose returns, as enum lane_drawn, the share and the endpoint of it that the next request of
 * a route is for; without an endpoint the proxy chooses one.
 */
__attribute__((noinline)) __u32 choose(__u32 place)
{
	struct lane_route *r = bpf_map_lookup_elem(&lane_routes, &place);
	struct lane_share *s;
	__u64 share = 0;
	__u32 word;

	if (!r)
		return 0;
	if (r->count > 1) {
		word = bpf_get_prandom_u32();
		for (; share < LANE_SHARES - 1; share++)
			if (share + 1 >= r->count || word <= r->shares[share].upto)
				break;
	}
	BOUND(share, LANE_SHARES - 1);
	s = &r->shares[share];
	if (!s->count)
		return share | (s->beyond ? ANYBODY_THERE : 0);
	switch (s->policy) {
	case lane_round_robin:
		return share | (s->count == 1 && !s->beyond ? choice(s, 0) : in_turn(s));
	case lane_least:
		return share | least(r, s);
	case lane_weighed:
		return share | weighed(r, s, place);
	}
	return share | at_random(s);
}
