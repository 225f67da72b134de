/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_wake.h: wake_tcp (iter/tcp), which the agent runs in pods' network namespaces.
 *
 * When:    while memory is short, and once after, for each socket of TCP.
 * Reads:   whether somebody waits to write to it.
 * Writes:  nothing: TCP_NOTSENT_LOWAT is set to what it is, by which the kernel wakes who
 *          waits. Who was told EAGAIN while the socket was in lane_sockets waits for ever
 *          otherwise (lane_leave.h).
 * Verdict: none.
 * Kernel:  6.1. It is loaded apart, where tracing is allowed.
 */
#pragma once

static long (*bpf_setsockopt)(void *ctx, int level, int name, void *value, int length) = (void *)49;

#define SOL_TCP 6
#define TCP_NOTSENT_LOWAT 25
#define SOCK_NOSPACE (1 << 2) /* of a socket's flags */

struct iter_tcp {
	void *meta;
	void *sk;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpadded"
struct socket___wake {
	unsigned long flags;
};
struct sock___wake {
	struct socket___wake *sk_socket;
};
struct tcp_sock___wake {
	__u32 notsent_lowat;
};
#pragma clang diagnostic pop
#pragma clang attribute pop

SEC("iter/tcp")
int wake_tcp(struct iter_tcp *ctx)
{
	struct socket___wake *socket = NULL;
	unsigned long flags = 0;
	struct tcp_sock *tp;
	__u32 lowat = 0;
	void *sk = ctx->sk;

	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	READ(socket, ((struct sock___wake *)tp)->sk_socket);
	READ(flags, socket->flags);
	if (!(flags & SOCK_NOSPACE))
		return 0;
	READ(lowat, ((struct tcp_sock___wake *)tp)->notsent_lowat);
	bpf_setsockopt(tp, SOL_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof(lowat));
	return 0;
}
