/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_kernel.h: what the lane's programs read of sockets that are not their own, whose
 * addresses they learned in the handshake. Such a socket may be gone: reads do not
 * fault, and whoever decides by them has a cookie to compare, or loses nothing.
 * Members are relocated at load time; those that moved are looked for by name.
 */
#pragma once

static __u32 (*bpf_get_prandom_u32)(void) = (void *)7;
static __u32 (*bpf_get_smp_processor_id)(void) = (void *)8;
static __u64 (*bpf_get_socket_cookie)(void *ctx) = (void *)46;
static long (*bpf_msg_apply_bytes)(struct sk_msg_md *msg, __u32 bytes) = (void *)61;
static long (*bpf_msg_pull_data)(struct sk_msg_md *msg, __u32 start, __u32 end, __u64 flags) = (void *)63;
static long (*bpf_sock_hash_update)(void *ctx, void *map, void *key, __u64 flags) = (void *)70;
static long (*bpf_msg_redirect_hash)(struct sk_msg_md *msg, void *map, void *key, __u64 flags) = (void *)71;
static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static void *(*bpf_ringbuf_reserve)(void *ringbuf, __u64 size, __u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)132;

#define field_exists(field) __builtin_preserve_field_info(field, 2)
#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), __builtin_preserve_access_index(&(from)))

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpadded"
typedef struct {
	int counter;
} atomic_t;
typedef struct {
	long long counter;
} atomic64_t;
struct refcount_struct {
	atomic_t refs;
};
typedef struct refcount_struct refcount_t;
struct hlist_node {
	struct hlist_node **pprev;
};
struct timer_list {
	struct hlist_node entry;
};
struct hrtimer {
	__u8 state;
};

struct sock_common___lane {
	refcount_t skc_refcnt;
	atomic64_t skc_cookie;
};
struct sock___lane {
	struct sock_common___lane __sk_common;
	struct {
		atomic_t rmem_alloc;
	} sk_backlog;
	struct timer_list sk_timer;
};
struct inet_connection_sock___lane {
	struct timer_list icsk_retransmit_timer; /* until 6.18 */
	struct timer_list icsk_delack_timer;
};
struct tcp_sock___lane {
	__u32 copied_seq;
	__u32 write_seq;
	struct hrtimer pacing_timer;
	struct hrtimer compressed_ack_timer;
};

/* The first from 6.19 on. The second came with it, and to 6.1 and 6.12 before: sk_timer may
 * be the retransmission's since.
 */
struct sock___new {
	struct timer_list tcp_retransmit_timer;
};
struct inet_connection_sock___new {
	struct timer_list icsk_keepalive_timer;
};

/* From 7.x on. */
struct hrtimer___new {
	_Bool is_queued;
};
struct tcp_sock___new {
	struct hrtimer___new pacing_timer;
	struct hrtimer___new compressed_ack_timer;
};
#pragma clang diagnostic pop
#pragma clang attribute pop

/* A socket of TCP begins with the more general ones. */
static __always_inline __u64 cookie_at(__u64 sk)
{
	__u64 cookie = 0;

	READ(cookie, ((struct sock___lane *)sk)->__sk_common.skc_cookie);
	return cookie;
}

/* queued_at: bytes that are charged to a socket until they are read, 0 if it is gone. */
static __always_inline __u32 queued_at(__u64 sk)
{
	__u32 bytes = 0;

	READ(bytes, ((struct sock___lane *)sk)->sk_backlog.rmem_alloc);
	return bytes;
}

static __always_inline __u32 write_seq_at(__u64 sk)
{
	__u32 seq = 0;

	READ(seq, ((struct tcp_sock___lane *)sk)->write_seq);
	return seq;
}

static __always_inline __u32 copied_seq_at(__u64 sk)
{
	__u32 seq = 0;

	READ(seq, ((struct tcp_sock___lane *)sk)->copied_seq);
	return seq;
}

/* timers_at: a bit for each timer of the socket that is pending; each holds the socket. */
static __always_inline __u32 timers_at(__u64 sk)
{
	struct inet_connection_sock___lane *icsk = (void *)sk;
	struct inet_connection_sock___new *new_icsk = (void *)sk;
	__u64 retransmit = 0, delack = 0, keepalive = 0;
	__u8 pacing = 0, compressed = 0;

	if (field_exists(icsk->icsk_retransmit_timer))
		READ(retransmit, icsk->icsk_retransmit_timer.entry.pprev);
	else
		READ(retransmit, ((struct sock___new *)sk)->tcp_retransmit_timer.entry.pprev);
	if (field_exists(new_icsk->icsk_keepalive_timer))
		READ(keepalive, new_icsk->icsk_keepalive_timer.entry.pprev);
	else
		READ(keepalive, ((struct sock___lane *)sk)->sk_timer.entry.pprev);
	READ(delack, icsk->icsk_delack_timer.entry.pprev);
	if (field_exists(((struct tcp_sock___new *)sk)->pacing_timer.is_queued)) {
		READ(pacing, ((struct tcp_sock___new *)sk)->pacing_timer.is_queued);
		READ(compressed, ((struct tcp_sock___new *)sk)->compressed_ack_timer.is_queued);
	} else {
		READ(pacing, ((struct tcp_sock___lane *)sk)->pacing_timer.state);
		READ(compressed, ((struct tcp_sock___lane *)sk)->compressed_ack_timer.state);
	}
	return !!retransmit | !!delack << 1 | !!keepalive << 2 | (pacing & 1) << 3 | (compressed & 1) << 4;
}

/* holders_at: who refers to a socket beyond itself, its psock and its timers: a redirect
 * holds its target from its verdict until the bytes are queued. A timer that begins or
 * ends meanwhile is taken for a holder, which is gone at the next look.
 */
static __always_inline __u32 holders_at(__u64 sk)
{
	__u32 timers = timers_at(sk);
	__s32 refs = 0;

	READ(refs, ((struct sock___lane *)sk)->__sk_common.skc_refcnt);
	timers &= timers_at(sk);
	refs -= 2 + (timers & 1) + (timers >> 1 & 1) + (timers >> 2 & 1) + (timers >> 3 & 1) + (timers >> 4 & 1);
	return refs > 0 ? refs : 0;
}
