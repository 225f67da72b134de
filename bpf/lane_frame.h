/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_frame.h: frames of Dubbo2 in the window of a message, and the routes of the
 * requests among them. Everything is compared where it lies.
 */
#pragma once

#define FRAME_HEADER 16
#define FRAME_MAGIC 0xbbda         /* da bb */
#define FRAME_KINDS 0xe0           /* request, two-way, event */
#define FRAME_CALL 0xc0            /* a request that wants an answer */
#define FRAME_SERIALIZATION 0x1f
#define FRAME_OK 20
#define FRAME_MAX (64 << 20)       /* bytes that a frame may have in the lane */
#define HESSIAN2 2
#define FASTJSON2 23

#define WINDOW_MAX 32768           /* offsets beyond it are not looked at */
#define WINDOW_WANTED (FRAME_HEADER + LANE_PREFIX + 16)

/* clang 14 would load the ends of the window through a computed pointer. */
static __always_inline void *window(struct sk_msg_md *msg)
{
	void *data;

	asm volatile("%0 = *(u64 *)(%1 + 0)" : "=r"(data) : "r"(msg));
	return data;
}

static __always_inline void *window_end(struct sk_msg_md *msg)
{
	void *end;

	asm volatile("%0 = *(u64 *)(%1 + 8)" : "=r"(end) : "r"(msg));
	return end;
}

struct header {
	__u64 id;
	__u64 total; /* bytes, the header's included */
	__u64 head;  /* magic, flags and status, as they lie there */
};

static __always_inline __u32 kind_of(const struct header *h) { return h->head >> 16 & 0xff; }
static __always_inline __u32 status_of(const struct header *h) { return h->head >> 24; }

/* read_header: false if it is not whole, or no frame's. */
static __always_inline int read_header(void *p, void *end, struct header *h)
{
	if (p + FRAME_HEADER > end)
		return 0;
	h->head = *(__u32 *)p;
	if ((h->head & 0xffff) != FRAME_MAGIC)
		return 0;
	h->id = __builtin_bswap64(*(__u64 *)(p + 4));
	h->total = FRAME_HEADER + (__u64)bpf_ntohl(*(__u32 *)(p + 12));
	return 1;
}

#define HASH_SEED 0x9e3779b97f4a7c15ull
#define HASH_MUL 0xff51afd7ed558ccdull

static __always_inline __u64 mix(__u64 h, __u64 word)
{
	h = (h ^ word) * HASH_MUL;
	return h ^ h >> 32;
}

/* text_size: bytes of a string in hessian2, 0 if it is none or a long one. Strings are
 * counted in characters there: behind one that is not ASCII lies something else than is
 * taken for the next, and no route was put for it.
 */
static __always_inline __u64 text_size(void *p, void *end)
{
	__u64 first, second;

	if (p + 2 > end)
		return 0;
	first = *(__u8 *)p;
	second = *(__u8 *)(p + 1);
	if (first <= 0x1f)
		return 1 + first;
	if (first >= 0x30 && first <= 0x33)
		return 2 + ((first - 0x30) << 8 | second);
	return 0;
}

/* element_size: bytes of an element in fastjson2. */
static __always_inline __u64 element_size(void *p, void *end)
{
	if (p + 4 > end)
		return 0;
	return 4 + (__u64)bpf_ntohl(*(__u32 *)p);
}

/* names_size: bytes of the four strings behind a header at the window's begin: version of
 * the protocol, path, version, method. 0 if they cannot be in a route.
 */
static __always_inline __u64 names_size(void *data, void *end, __u32 serialization)
{
	__u64 at = 0, size;

#pragma clang loop unroll(full)
	for (int i = 0; i < 4; i++) {
		if (!BOUND(at, LANE_PREFIX))
			return 0;
		if (serialization == HESSIAN2)
			size = text_size(data + FRAME_HEADER + at, end);
		else
			size = element_size(data + FRAME_HEADER + at, end);
		if (!size)
			return 0;
		at += size;
	}
	return BOUND(at, LANE_PREFIX) ? at : 0;
}

/* names_hash is internal/lane's Hash; 0 if the window ends too early. */
static __always_inline __u64 names_hash(void *data, void *end, __u64 seed, __u64 size)
{
	__u64 h = mix(HASH_SEED, seed | size), left = size, word;
	void *p = data + FRAME_HEADER;

	for (int i = 0; i < LANE_PREFIX / 8; i++) {
		if (!left)
			break;
		if (p + 8 > end)
			return 0;
		word = *(__u64 *)p;
		if (left < 8) {
			h = mix(h, word & ((1ull << left * 8) - 1));
			break;
		}
		h = mix(h, word);
		left -= 8;
		p += 8;
	}
	return h ? h : 1;
}

/* same_names compares those of a frame that begins at at with a route's. */
__attribute__((noinline)) int same_names(struct sk_msg_md *msg, __u32 at, __u32 place)
{
	struct lane_route *r = bpf_map_lookup_elem(&lane_routes, &place);
	void *p = window(msg), *end = window_end(msg);
	__u64 left, offset = at, word;

	if (!r || !BOUND(offset, WINDOW_MAX))
		return 0;
	left = r->length;
	p += offset;
	p += FRAME_HEADER;
	for (int i = 0; i < LANE_PREFIX / 8; i++) {
		if (!left)
			return 1;
		if (p + 8 > end)
			return 0;
		word = *(__u64 *)p ^ *(__u64 *)(r->prefix + i * 8);
		if (left < 8)
			return !(word << (64 - left * 8));
		if (word)
			return 0;
		left -= 8;
		p += 8;
	}
	return !left;
}

/* find_route returns the place of the route of the request at the window's begin, and 1;
 * 0 if it has none.
 */
__attribute__((noinline)) __u32 find_route(struct sk_msg_md *msg, __u32 class, __u32 serialization)
{
	void *data = window(msg), *end = window_end(msg);
	struct lane_route *r;
	__u64 size, hash;
	__u32 place;

	size = names_size(data, end, serialization);
	if (!size)
		return 0;
	hash = names_hash(data, end, (__u64)class << 32 | serialization << 16, size);
	if (!hash)
		return 0;
	for (int i = 0; i < LANE_PROBES; i++) {
		place = (hash + i) & lane_route_mask;
		r = bpf_map_lookup_elem(&lane_routes, &place);
		if (!r)
			return 0;
		if (r->hash == hash && r->class == class && r->serialization == serialization &&
		    r->length == size && same_names(msg, 0, place))
			return place + 1;
	}
	return 0;
}
