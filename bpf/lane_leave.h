/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_leave.h: leave_syscall (syscall), which the agent runs.
 *
 * When:    now and then, for one of the applications' sockets that are in lane_sockets.
 * Reads:   lane_bound; of the socket what lane_kernel.h and lane_room.h read.
 * Writes:  the answer (struct lane_leave).
 * Verdict: none; it tells how much TCP's memory is used, and whether the socket may be
 *          taken out of lane_sockets without a loss.
 * Kernel:  5.14.
 *
 * What a socket of lane_sockets sends is charged before any program sees it (sk_msg_alloc).
 * Beyond tcp_mem[2] a charge fails unless the socket has enough queued already. TCP forces
 * it through for a socket that has nothing queued, and so each connection goes on; a socket
 * of a sockmap gets EAGAIN for ever, and as nothing of its own is on the way, nothing wakes
 * who waits at an edge (epoll with EPOLLET: Go, Netty). So sockets leave before.
 */
#pragma once

enum lane_strain {
	lane_strain_none, /* all of TCP has at most tcp_mem[0] */
	lane_strain_some,
	lane_strain_much, /* more than tcp_mem[1]: what the kernel itself calls pressure */
};

struct lane_leave {
	__u64 cookie; /* whose; 0: nobody's, only the strain is asked for */
	__u64 sk;     /* as of lane_place */
	__u32 lane;
	__u32 end;

	/* Where TCP's memory and its limits are; answered where 0. */
	__u64 allocated;
	__u64 limits;

	enum lane_strain strain;
	__u32 free; /* it is in no lane, nobody is about to send it anything, and it has read all */
};
const struct lane_leave lane_leave_type SEC(".types") = {0};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpadded"
struct list_head___lane {
	void *next;
};
struct sk_psock___lane {
	struct list_head___lane ingress_msg;
};
struct sock___leave {
	void *sk_user_data;
};
#pragma clang diagnostic pop
#pragma clang attribute pop

/* has_read_all: nothing that was redirected to a socket waits there. */
static __always_inline int has_read_all(__u64 sk)
{
	struct sk_psock___lane *psock;
	__u64 data = 0;

	if (!type_exists(struct sk_psock___lane))
		return 0;
	READ(data, ((struct sock___leave *)sk)->sk_user_data);
	psock = (void *)(data & ~7ull);
	if (!psock)
		return 0;
	return word_at(__builtin_preserve_access_index(&psock->ingress_msg.next)) ==
	       (__u64)__builtin_preserve_access_index(&psock->ingress_msg);
}

static __always_inline int is_free(struct lane_leave *ask)
{
	struct lane_binding *bound;
	struct lane_member *member;
	__u32 lane = ask->lane - 1;

	if (ask->lane) {
		bound = bpf_map_lookup_elem(&lane_bound, &lane);
		member = bound ? member_of(bound, ask->end) : NULL;
		if (!member || *(volatile __u64 *)&member->cookie == ask->cookie)
			return 0;
	}
	return cookie_at(ask->sk) == ask->cookie && !holders_at(ask->sk) && has_read_all(ask->sk);
}

static __always_inline enum lane_strain strain_of(__u64 allocated, __u64 limits)
{
	__s64 pages = word_at((void *)allocated);

	if (pages > (__s64)word_at((void *)(limits + sizeof(long))))
		return lane_strain_much;
	return pages > (__s64)word_at((void *)limits) ? lane_strain_some : lane_strain_none;
}

SEC("syscall")
int leave_syscall(struct lane_leave *ask)
{
	struct proto___lane *prot = NULL;
	__u64 sk = ask->sk, allocated = ask->allocated, limits = ask->limits;

	ask->free = 0;
	ask->strain = lane_strain_none;
	if (!allocated && ask->cookie && cookie_at(sk) == ask->cookie) {
		READ(prot, ((struct sock___room *)sk)->__sk_common.skc_prot);
		READ(allocated, prot->memory_allocated);
		READ(limits, prot->sysctl_mem);
		ask->allocated = allocated;
		ask->limits = limits;
	}
	if (allocated && limits)
		ask->strain = strain_of(allocated, limits);
	if (ask->cookie)
		ask->free = is_free(ask);
	return 0;
}
