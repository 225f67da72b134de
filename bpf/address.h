/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* address.h: one form for IPv4, IPv6 and v4-mapped endpoints, and the identity
 * of a network namespace.
 */
#pragma once

#define MAPPED_PREFIX bpf_htonl(0x0000ffff) /* third word of ::ffff:0:0/96 */
#define LOOPBACK4 bpf_htonl(0x7f000001)

/* Loads one 32-bit word of a context, never merged with its neighbours: the
 * verifier wants each member by itself.
 */
#define WORD(x) (*(volatile const __u32 *)&(x))

/* Ends a branch that loads from the context, or clang joins its loads with the
 * other branch's into one, through a computed pointer.
 */
#define APART() asm volatile("")

#define COPY_WORDS(to, from)                 \
	do {                                 \
		(to)[0] = WORD((from)[0]);   \
		(to)[1] = WORD((from)[1]);   \
		(to)[2] = WORD((from)[2]);   \
		(to)[3] = WORD((from)[3]);   \
	} while (0)

static __always_inline void set_addr4(__be32 addr[4], __be32 addr4)
{
	addr[0] = 0;
	addr[1] = 0;
	addr[2] = MAPPED_PREFIX;
	addr[3] = addr4;
}

static __always_inline int is_mapped(const __be32 addr[4])
{
	return !addr[0] && !addr[1] && addr[2] == MAPPED_PREFIX;
}

static __always_inline int is_same(const __be32 a[4], const __be32 b[4])
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

/* 127.0.0.0/8 and ::1, and the unspecified addresses, which connect() takes for
 * them.
 */
static __always_inline int is_loopback(const __be32 addr[4])
{
	if (is_mapped(addr))
		return (addr[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000) || !addr[3];
	return !addr[0] && !addr[1] && !addr[2] && (addr[3] == bpf_htonl(1) || !addr[3]);
}

/* 169.254.0.0/16 and fe80::/10. */
static __always_inline int is_link_local(const __be32 addr[4])
{
	if (is_mapped(addr))
		return (addr[3] & bpf_htonl(0xffff0000)) == bpf_htonl(0xa9fe0000);
	return (addr[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* ends: both of a connection, as the socket of a sockops program sees them. */
static __always_inline void ends(struct bpf_sock_ops *ctx, struct endpoint *local, struct endpoint *remote)
{
	if (WORD(ctx->family) == AF_INET6) {
		COPY_WORDS(local->addr, ctx->local_ip6);
		COPY_WORDS(remote->addr, ctx->remote_ip6);
		APART();
	} else {
		set_addr4(local->addr, WORD(ctx->local_ip4));
		set_addr4(remote->addr, WORD(ctx->remote_ip4));
	}
	local->port = bpf_htons((__u16)WORD(ctx->local_port));
	remote->port = (__be16)(WORD(ctx->remote_port) >> 16);
	local->pad = 0;
	remote->pad = 0;
}

static __always_inline __u64 netns_of(void *ctx, struct bpf_sock *sk)
{
	struct tcp_sock *tp;

	if (!netns_by_inode)
		return bpf_get_netns_cookie(ctx);
	tp = bpf_skc_to_tcp_sock(sk);
	return tp ? tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net->ns.inum : 0;
}
