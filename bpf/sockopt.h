/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* sockopt.h: answer_sockopt (cgroup/getsockopt).
 *
 * When:    after the kernel's own getsockopt(), whatever it answered.
 * Reads:   sockets.
 * Writes:  the answer, for SO_ORIGINAL_DST of an accepted socket that was steered.
 * Verdict: always 1. SOL_IP answers an IPv4 destination only; SOL_IPV6 answers
 *          both, IPv4 as v4-mapped. Everything else keeps the kernel's answer: an
 *          accepted socket that nobody steered has no original destination.
 * Kernel:  5.10.
 */
#pragma once

static __always_inline int answer4(struct bpf_sockopt *ctx, const struct endpoint *destination)
{
	struct sockaddr_in *answer = ctx->optval;

	if (!is_mapped(destination->addr) || (void *)(answer + 1) > ctx->optval_end)
		return 0;
	answer->sin_family = AF_INET;
	answer->sin_port = destination->port;
	answer->sin_addr = destination->addr[3];
	__builtin_memset(answer->sin_zero, 0, sizeof(answer->sin_zero));
	ctx->optlen = sizeof(*answer);
	return 1;
}

static __always_inline int answer6(struct bpf_sockopt *ctx, const struct endpoint *destination)
{
	struct sockaddr_in6 *answer = ctx->optval;

	if ((void *)(answer + 1) > ctx->optval_end)
		return 0;
	answer->sin6_family = AF_INET6;
	answer->sin6_port = destination->port;
	answer->sin6_flowinfo = 0;
	__builtin_memcpy(answer->sin6_addr, destination->addr, sizeof(answer->sin6_addr));
	answer->sin6_scope_id = 0;
	ctx->optlen = sizeof(*answer);
	return 1;
}

SEC("cgroup/getsockopt")
int answer_sockopt(struct bpf_sockopt *ctx)
{
	struct socket *socket;
	int answered;

	if (ctx->optname != SO_ORIGINAL_DST || (ctx->level != SOL_IP && ctx->level != SOL_IPV6)) {
		/* The kernel copied only a page of a long answer here; with no
		 * length it leaves what it wrote itself.
		 */
		if (ctx->optlen > PAGE_SIZE)
			ctx->optlen = 0;
		return 1;
	}
	socket = ctx->sk ? bpf_sk_storage_get(&sockets, ctx->sk, NULL, 0) : NULL;
	if (!socket || socket->role != accepted || !socket->flow.destination.port)
		return 1;
	if (ctx->level == SOL_IP)
		answered = answer4(ctx, &socket->flow.destination);
	else
		answered = answer6(ctx, &socket->flow.destination);
	if (answered) {
		ctx->retval = 0;
		count(original_dst_answered);
	}
	return 1;
}
