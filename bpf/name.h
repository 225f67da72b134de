/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* name.h: show_peername4, show_peername6, show_sockname4, show_sockname6
 * (cgroup/getpeername4, 6, getsockname4, 6).
 *
 * When:    in getpeername() and for the address that accept() returns; in
 *          getsockname().
 * Reads:   sockets.
 * Writes:  the address that is shown. To a consumer its peer is the destination
 *          that it meant and itself is the pod, never 127.0.0.1, which it might
 *          register somewhere; to who accepted, the peer is the consumer.
 * Verdict: always 1; the kernel allows no other.
 * Kernel:  5.8.
 */
#pragma once

static __always_inline const struct endpoint *peer_of(struct bpf_sock_addr *ctx)
{
	struct socket *socket = bpf_sk_storage_get(&sockets, ctx->sk, NULL, 0);

	if (!socket)
		return NULL;
	if (socket->role == consumer)
		return &socket->flow.destination;
	if (socket->role == accepted && socket->flow.consumer.port && !is_loopback(socket->flow.consumer.addr))
		return &socket->flow.consumer;
	return NULL;
}

/* The pod's address, if the socket has one and would show loopback. A socket
 * that was disconnected since shows what it is.
 */
static __always_inline const struct endpoint *self_of(struct bpf_sock_addr *ctx)
{
	struct socket *socket = bpf_sk_storage_get(&sockets, ctx->sk, NULL, 0);

	if (!socket || socket->role != consumer || is_loopback(socket->flow.consumer.addr))
		return NULL;
	return &socket->flow.consumer;
}

static __always_inline void show6(struct bpf_sock_addr *ctx, const struct endpoint *shown)
{
	ctx->user_ip6[0] = shown->addr[0];
	ctx->user_ip6[1] = shown->addr[1];
	ctx->user_ip6[2] = shown->addr[2];
	ctx->user_ip6[3] = shown->addr[3];
}

SEC("cgroup/getpeername4")
int show_peername4(struct bpf_sock_addr *ctx)
{
	const struct endpoint *peer = peer_of(ctx);

	if (!peer || !is_mapped(peer->addr))
		return 1;
	ctx->user_ip4 = peer->addr[3];
	ctx->user_port = peer->port;
	count(peer_shown);
	return 1;
}

SEC("cgroup/getpeername6")
int show_peername6(struct bpf_sock_addr *ctx)
{
	const struct endpoint *peer = peer_of(ctx);

	if (!peer)
		return 1;
	show6(ctx, peer);
	ctx->user_port = peer->port;
	count(peer_shown);
	return 1;
}

SEC("cgroup/getsockname4")
int show_sockname4(struct bpf_sock_addr *ctx)
{
	const struct endpoint *self = self_of(ctx);

	if (!self || !is_mapped(self->addr) || ctx->user_ip4 != LOOPBACK4)
		return 1;
	ctx->user_ip4 = self->addr[3];
	count(self_shown);
	return 1;
}

SEC("cgroup/getsockname6")
int show_sockname6(struct bpf_sock_addr *ctx)
{
	const struct endpoint *self = self_of(ctx);
	__be32 real[4];

	COPY_WORDS(real, ctx->user_ip6);
	if (!self || (!real[3] || !is_loopback(real)))
		return 1;
	show6(ctx, self);
	count(self_shown);
	return 1;
}
