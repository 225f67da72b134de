/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_room.h: whether the kernel has memory for what a socket is sent by redirect.
 *
 * It charges a redirected message to its receiver piece by piece, and what was said of the
 * message is used up before: a charge that fails in the middle leaves a half of it with
 * the receiver, and the other to be looked at as if it began a frame. Nobody can mend
 * that, so nothing is redirected where a charge may fail. As of 6.1 to 7.3 (in
 * __sk_mem_raise_allocated) it succeeds
 *   - below tcp_mem[0], the first of what the host gives TCP. An eighth of it, and what
 *     there is up to tcp_mem[1], is for what is charged between the look and the charge;
 *   - and if the receiver's cgroup agrees. Version 1 has a limit for sockets, and refuses
 *     at once: sockets that are counted there have no lane. In version 2 they are
 *     memory like any other. A writer may sleep there, so at the limit the kernel takes the
 *     cgroup's files from memory, then kills a process in it. Neither is a
 *     lane's business: where there is little left that is no file's, it is not used.
 * Which cgroup that is a socket knows when it has been accepted.
 */
#pragma once

#define ROOM_NS 1000000    /* how long a look at a receiver's cgroup holds */
#define ROOM_PAGES 2048    /* what it must have left */
#define ROOM_LEVELS 16     /* cgroups above each other */
#define ROOM_NODES 8       /* of NUMA */
#define ROOM_LRUS 5        /* lists of pages in each zone of a node */
#define ROOM_ZONES 4       /* that have pages of files */
#define NO_LIMIT (1ull << 40) /* pages; PAGE_COUNTER_MAX is more */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpadded"
struct page_counter___lane {
	atomic64_t usage; /* pages */
	unsigned long max;
	struct page_counter___lane *parent;
};
struct mem_cgroup_per_node___lane {
	unsigned long lru_zone_size[ROOM_ZONES * ROOM_LRUS];
	struct mem_cgroup___lane *memcg;
};
struct mem_cgroup___lane {
	struct page_counter___lane memory;
	_Bool tcpmem_active; /* version 1, with a limit for sockets */
	struct mem_cgroup_per_node___lane *nodeinfo[0];
};
struct proto___lane {
	atomic64_t *memory_allocated; /* pages */
	long *sysctl_mem;
};
struct sock_common___room {
	struct proto___lane *skc_prot;
};
struct sock___room {
	struct sock_common___room __sk_common;
	struct mem_cgroup___lane *sk_memcg;
	void *sk_socket;
};
#pragma clang diagnostic pop
#pragma clang attribute pop

static __always_inline __u64 word_at(const void *at)
{
	__u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), at);
	return word;
}

#define type_exists(type) __builtin_preserve_type_info(*(type *)0, 0)

/* memcg_at: whose memory a socket's is, NULL: the host's. The pointer's last bits are flags in some
 * kernels.
 */
static __always_inline struct mem_cgroup___lane *memcg_at(__u64 sk)
{
	__u64 memcg = 0;

	if (field_exists(((struct sock___room *)sk)->sk_memcg))
		READ(memcg, ((struct sock___room *)sk)->sk_memcg);
	return (void *)(memcg & ~7ull);
}

/* is_counted: a socket of a cgroup, of version 1, that limits sockets. */
static __always_inline int is_counted(__u64 sk)
{
	struct mem_cgroup___lane *memcg = memcg_at(sk);
	_Bool active = 0;

	if (memcg && field_exists(memcg->tcpmem_active))
		READ(active, memcg->tcpmem_active);
	return active;
}

/* files_of: pages of files that a cgroup itself has in memory, at most so many. */
static __always_inline __u64 files_of(struct mem_cgroup___lane *memcg, __u64 most)
{
	struct mem_cgroup_per_node___lane *node;
	__u64 sizes[ROOM_ZONES * ROOM_LRUS], sum = 0;
	struct mem_cgroup___lane *of;

	for (int i = 0; i < ROOM_NODES; i++) {
		node = (void *)word_at((void *)__builtin_preserve_access_index(&memcg->nodeinfo) + i * sizeof(node));
		of = NULL;
		READ(of, node->memcg);
		if (of != memcg)
			break; /* there are no more nodes */
		__builtin_memset(sizes, 0, sizeof(sizes));
		READ(sizes, node->lru_zone_size);
		for (int zone = 0; zone < ROOM_ZONES; zone++)
			for (int lru = 2; lru < 4; lru++) /* LRU_INACTIVE_FILE, LRU_ACTIVE_FILE */
				if (sizes[zone * ROOM_LRUS + lru] <= most) /* or there is no such zone */
					sum += sizes[zone * ROOM_LRUS + lru];
	}
	return sum < most ? sum : most;
}

/* has_memory: whether the cgroup of a socket agrees to more. */
static __always_inline int has_memory(__u64 sk)
{
	struct mem_cgroup___lane *memcg = memcg_at(sk);
	__u64 accepted = 0, max = ~0ull, usage = 0;
	struct page_counter___lane *counter;

	READ(accepted, ((struct sock___room *)sk)->sk_socket);
	if (!accepted)
		return 0;
	if (type_exists(struct mem_cgroup___lane) && !field_exists(((struct sock___room *)sk)->sk_memcg))
		return 0; /* it is elsewhere in this kernel */
	if (!memcg)
		return 1;
	if (is_counted(sk))
		return 0;
	counter = __builtin_preserve_access_index(&memcg->memory);
	for (int i = 0; i < ROOM_LEVELS && counter; i++) {
		READ(max, counter->max);
		if (max < NO_LIMIT)
			break;
		READ(counter, counter->parent);
	}
	if (max >= NO_LIMIT)
		return !counter;
	READ(usage, counter->usage);
	if (usage + ROOM_PAGES <= max)
		return 1;
	return usage - files_of(memcg, usage) + ROOM_PAGES <= max;
}

/* look renews what is known of a receiver's memory; false: nothing, or it has little. */
__attribute__((noinline)) int look(struct lane_member *to, __u64 now)
{
	__u64 sk, limits = 0, allocated = 0, most;
	struct proto___lane *prot = NULL;

	if (!to)
		return 0;
	sk = to->sk;
	if (!has_memory(sk))
		return 0;
	READ(prot, ((struct sock___room *)sk)->__sk_common.skc_prot);
	READ(allocated, prot->memory_allocated);
	READ(limits, prot->sysctl_mem);
	if (!allocated || !limits)
		return 0;
	to->allocated = allocated;
	most = word_at((void *)limits);
	to->most = most - most / 8;
	to->until = now + ROOM_NS;
	return 1;
}

/* has_room: whether a receiver may be sent so many bytes at now. */
static __always_inline int has_room(struct lane_member *to, __u64 now, __u32 bytes)
{
	if (now >= to->until && !look(to, now))
		return 0;
	return (__s64)word_at((void *)to->allocated) + bytes / PAGE_SIZE < (__s64)to->most;
}
