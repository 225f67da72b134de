/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_memory.h: what the lane's programs remember. The pages come first: arrays that
 * the proxy maps into its own memory (internal/lane has the same layout in Go; a test
 * of agent/datapath/lane compares the two), so that it governs its lanes without a
 * system call and without a capability. They hold flags, positions, names and
 * counts, and nothing that a program follows into kernel memory: sockets and their
 * addresses are in the maps behind them, which only the programs write.
 */
#pragma once

/* A lane is one consumer connection whose requests the kernel may route. */
#define LANE_ENDS 8       /* provider connections of one lane */
#define LANE_FLIGHTS 512  /* requests in flight of one lane; a power of two */
#define LANE_PREFIX 256   /* bytes of a route's names as they are on the wire */
#define LANE_SHARES 4     /* weighted clusters of a route */
#define LANE_CHOICES 24   /* endpoints of a share, each as often as it weighs */
#define LANE_CANDIDATES 64 /* endpoints of a route's shares by least request */
#define LANE_WEIGHED 16   /* of which one share has unequal weights */
#define LANE_DRAWS 8      /* of which the least is taken */
#define LANE_PROBES 8     /* places in which a route may be, from its hash's on */
#define LANE_BOUNDS 19    /* as of package histogram */
#define LANE_PAUSE_BYTES 500000 /* above it an answer is not written whole in one message */

enum lane_flag {
	lane_requests = 1, /* requests may take the lane */
	lane_answers = 2,  /* the consumer is written to by redirect alone: by what A writes, and by answers */
	lane_paused = 4,   /* answers go to the proxy: it writes a large frame in pieces */
	lane_logged = 8,   /* each call is told of in lane_log */
};

enum lane_end_flag {
	lane_end_open = 1, /* requests may go there */
};

/* position: a frame begins at the TCP sequence number seq; set 0: nothing is known. Read
 * and written as one word.
 */
struct lane_position {
	__u32 seq;
	__u32 set;
};

/* course: who reads a connection tells who writes to it where frames begin. A program that
 * does not know takes it that its message begins one, goes on from there by the frames'
 * headers, and asks: guess. The proxy answers with the same position in resume if
 * a frame does begin there, and leaves it there until guess is another; else resume is the
 * last that it has come to.
 */
struct lane_course {
	struct lane_position resume; /* the proxy's */
	struct lane_position guess;  /* the programs' */
};

struct lane_end {
	__u32 flags; /* enum lane_end_flag */
	__u32 pad;
	struct lane_course course; /* of what the provider writes by TCP */
};

/* lanes: what the proxy says of a lane, and, on cache lines of their own, what the programs have
 * seen. A lane without flags is nobody's.
 */
struct lane {
	__u32 flags; /* enum lane_flag */
	__u32 class; /* of its routes; 0: none */
	struct lane_course course; /* of what the consumer writes by TCP */
	/* For the proxy that comes after one that dies: where the last frame ends of which
	 * that one has read any byte. No program reads it.
	 */
	struct lane_position reading;
	__u32 ends_reading[LANE_ENDS]; /* the same of what providers wrote; it counts where it is ahead of what was read */
	struct lane_end ends[LANE_ENDS];
	__u64 requests; /* that took the lane */
	__u64 answers;  /* that took it */
	__u64 slow;     /* messages of the consumer that went to the proxy */
	__u64 returned; /* messages of providers that went to the proxy */
	__u64 last;     /* when a request took the lane last: CLOCK_MONOTONIC, in ns */
	__u64 behind;   /* times that a message began in the middle of a frame, or where nobody knew */
	__u64 full;     /* requests that found their flight taken, the provider too far behind, or too many in flight */
	__u64 scarce;   /* messages that went to the proxy because there may be no memory for them */
};

/* lane_flights: requests in flight, LANE_FLIGHTS for each lane; that of an id is at
 * id % LANE_FLIGHTS. Who changes key from id + 1 to 0, in one step, ends the request: a
 * program, with its answer, or the proxy.
 */
struct lane_flight {
	__u64 key;   /* id + 1; 0: none */
	__u64 start; /* CLOCK_MONOTONIC, in ns */
	__u32 route; /* its place in lane_routes */
	__u32 bytes; /* of the request, header included */
	__u32 end;   /* of the lane; or, without a key, enum lane_drawn */
	__u32 series;
};

/* drawn: what was drawn for a request that has gone to the proxy, whose id + 1 is start. The
 * proxy makes it 0 when it has read it.
 */
enum lane_drawn {
	lane_drawn_share = 0xff,  /* its number, if */
	lane_drawn_any = 0x100,   /* always set */
	lane_drawn_led = 0x200,   /* a share was drawn */
	lane_drawn_span = 0x400,  /* it is to have a span */
	lane_drawn_there = 0x800, /* of the share an endpoint elsewhere: a candidate of it, by number, or any of them */
	lane_drawn_end = 0x1000,  /* of the share an end of the lane, by number */
};
#define LANE_DRAWN_NUMBER 16 /* bits below the number */
#define LANE_DRAWN_ANYBODY 0xffffu

enum lane_policy {
	lane_round_robin,
	lane_random,
	lane_least,   /* of some candidates at random, the one with the least in flight */
	lane_weighed, /* candidates at random, by weight / (requests in flight + 1) */
};

/* share: a cluster of a route. In turn and at random, choices are ends of the lane, each as
 * often as it weighs, and of all requests a part is for endpoints elsewhere, among which the
 * proxy chooses. By least request both are candidates.
 */
struct lane_share {
	__u32 upto; /* a random word up to this, and above the shares before, is its own */
	__u8 policy; /* enum lane_policy */
	__u8 count;  /* of choices or candidates; 0: they are the proxy's to choose */
	__u8 first;  /* of candidates */
	__u8 draws;  /* of lane_least: how many, LANE_DRAWS at most */
	__u32 cursor; /* of round robin; the programs' */
	__u32 limit;  /* requests in flight to the cluster; 0: any number */
	__u32 beyond; /* in turn and at random: of 2^32 requests so many are for endpoints elsewhere */
	__u8 choices[LANE_CHOICES];
};

/* candidate: an endpoint that may have the least in flight. */
struct lane_candidate {
	__u32 weight; /* 0: it is left alone at present */
	__u16 active; /* in lane_active; 0: nobody counts */
	__u8 end;     /* of the lane; LANE_ENDS: it is the proxy's */
	__u8 pad;
};

/* lane_routes: where requests of a class go that begin with the same bytes behind
 * their header, up to the end of the method's name; the serialization too. An open
 * hash table: hash is written last, and cleared first. A place is used again only
 * when no program can still be at it.
 */
struct lane_route {
	__u64 hash; /* of class, serialization and prefix; 0: none */
	__u32 class;
	__u16 length;       /* of prefix */
	__u8 serialization; /* 2: hessian2, 23: fastjson2 */
	__u8 count;         /* of shares; 1 to LANE_SHARES */
	__u8 prefix[LANE_PREFIX]; /* the rest is zero */
	struct lane_share shares[LANE_SHARES];
	__u32 series[LANE_ENDS]; /* in lane_tallies, by end */
	__u32 flags;             /* enum lane_route_flag */
	__u32 sampled; /* if traced: random words below it are for a span */
	__u16 bounds[LANE_ENDS];  /* in lane_active, of the end's cluster; 0: any number may be in flight */
	__u16 actives[LANE_ENDS]; /* in lane_active, of the end in its cluster; 0: nobody counts */
	struct lane_candidate candidates[LANE_CANDIDATES];
};

enum lane_route_flag {
	lane_counts_active = 1, /* requests in flight to its ends are counted: actives */
	lane_limited = 2,       /* requests in flight to some cluster have a limit: bounds */
	lane_traced = 4,        /* requests that are part of a trace go to the proxy, and of others some */
	lane_mixed = 8,         /* some endpoints are the proxy's: who sends a request there is drawn once */
};

/* lane_tallies: what ended well in the lane, for each series on each CPU (at cpu *
 * series + number). The bounds are those of package histogram.
 */
struct lane_tally {
	__u64 durations[LANE_BOUNDS + 1];
	__u64 requests[LANE_BOUNDS + 1]; /* bytes */
	__u64 answers[LANE_BOUNDS + 1];
	__u64 nanoseconds; /* sums */
	__u64 request_bytes;
	__u64 answer_bytes;
	__u64 pad;
};

/* lane_log: one call that ended well in the lane. */
struct lane_record {
	__u32 lane;
	__u32 series;
	__u64 id;
	__u64 start;    /* CLOCK_MONOTONIC, in ns */
	__u64 duration; /* ns */
	__u32 request_bytes;
	__u32 answer_bytes;
	__u8 serialization;
	__u8 status;
	__u16 pad;
	__u32 end;
};

/* lane_log's budget: records of this second, over all CPUs; the rest is dropped and
 * counted. The proxy sets limit.
 */
struct lane_budget {
	__u64 second; /* CLOCK_MONOTONIC / 1e9 */
	__u32 spent;
	__u32 limit; /* a second */
	__u64 dropped;
	__u64 told;
};

/* What the proxy asks of a socket that it holds, by getsockopt() at one of these
 * levels: of an accepted consumer connection (A), or of a connection to a provider
 * that was dialled for a lane (B). Its peer is the application's own socket.
 */
enum lane_ask {
	lane_ask_state = 0x4c410001, /* struct lane_state */
	lane_ask_bind = 0x4c410002,  /* the same, and the socket's peer becomes the optname's: lane << 8 | end; end 255: the consumer */
	lane_ask_free = 0x4c410003,  /* the same, and the lane in optname, lane << 8, has no sockets any more */
};

struct lane_state {
	__u64 cookie; /* of the socket that is asked */
	__u64 peer;   /* of the application's, 0: it is in no map, and cannot be in a lane */
	__u32 holders; /* of the peer, beyond its own: 0 when nothing is on its way to it */
	__u32 queued;  /* bytes that the peer has not read, as the kernel charges them */
	__u32 unread;  /* bytes that the socket wrote by TCP and the peer has not read */
	__u32 copied;  /* sequence number behind the last byte that was read from the socket */
	__u32 flags;   /* enum lane_state_flag */
	__u32 pad;
};

enum lane_state_flag {
	lane_state_charged = 1, /* this kernel charges redirected bytes to the peer */
	lane_state_scarce = 2,  /* there may be no memory for more at the peer: nothing is written to it by redirect */
	lane_state_limited = 4, /* nor will there be: the peer's cgroup, of version 1, limits sockets */
};
