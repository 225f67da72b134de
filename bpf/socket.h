/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* socket.h: what is remembered of a socket, which the programs of steer.c write and
 * those of lane.c read: the lane's object is loaded with steer's map.
 */
#pragma once

/* Before 5.15 sockops programs cannot ask for the netns cookie: then every
 * "netns" in a map is the namespace's inode number instead. Needs CAP_PERFMON.
 */
const volatile _Bool netns_by_inode = 0;

struct endpoint {
	__be32 addr[4];
	__be16 port; /* 0: no endpoint */
	__u16 pad;
};

/* flow: the two ends of a call as the applications mean them, whoever stands
 * between. A destination without a port means: the one that it was sent to.
 */
struct flow {
	struct endpoint consumer;
	struct endpoint destination;
	__u32 laned; /* the destination's requests may take a lane */
};

/* sockets: one state per socket, gone with it. */
enum socket_role {
	untouched,
	mesh,     /* made by the agent; flow.consumer, if any, is shown to who accepts */
	consumer, /* a steered application socket */
	accepted, /* the other end of either */
};

struct socket {
	enum socket_role role;
	struct flow flow;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct socket);
} sockets SEC(".maps");

/* bridge_key: a connection on lo, from its connecting socket to the one that will be
 * accepted.
 */
struct bridge_key {
	__u64 netns;
	struct endpoint local; /* as the connecting socket sees it */
	struct endpoint remote;
};
