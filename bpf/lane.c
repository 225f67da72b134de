//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane.c: how a call gets from a consumer to a provider of the same node without the
 * proxy, in the order in which it meets the hooks. An object of its own, which package
 * agent/datapath/lane loads with the sockets of steer.c: a kernel that refuses it still
 * steers. A lane's sockets are called by letters: C is the consumer's, A the proxy's end
 * of it, P a provider's, B the proxy's end of that.
 *
 *     C ── requests ─▶ P      what the programs route
 *     C ◀─ answers ─── P
 *     C ─ TCP ─ A  proxy  B ─ TCP ─ P      everything else
 */
#include "kernel.h"       /* the kernel's side of the ABI */
#include "lane_kernel.h"  /* what is read of other sockets */
#include "lane_outcome.h" /* what can happen, and is counted */
#include "lane_memory.h"  /* what the proxy sees too */
#include "socket.h"       /* what steer.c remembers of a socket */
#include "address.h"      /* IPv4, IPv6 and v4-mapped as one */
#include "lane_maps.h"    /* what is remembered */
#include "lane_room.h"    /* whether there is memory for more */

#include "lane_sockops.h" /* 1. the handshakes: whose sockets these are */
#include "lane_ask.h"     /* 2. the proxy binds them to a lane */
#include "lane_frame.h"   /* frames, names, routes */
#include "lane_slow.h"    /* the way by the proxy, which everything may take */
#include "lane_trace.h"   /* spans are the proxy's */
#include "lane_limit.h"   /* how many requests may be in flight */
#include "lane_choice.h"  /* whom a request is for */
#include "lane_request.h" /* 3. the consumer writes */
#include "lane_tally.h"   /* what is counted of a call */
#include "lane_answer.h"  /* 4. the provider writes */
#include "lane_inject.h"  /* 5. the proxy writes */
#include "lane_leave.h"   /* 6. memory is short: sockets go back to TCP alone */
#include "lane_wake.h"    /* and who waited meanwhile goes on */

/* lane_msg acts by whose socket is written to. Not in a lane it costs a look. */
SEC("sk_msg")
int lane_msg(struct sk_msg_md *msg)
{
	struct lane_socket *self = bpf_sk_storage_get(&lane_states, msg->sk, NULL, 0);

	if (!self) {
		bpf_msg_apply_bytes(msg, 0);
		return SK_PASS;
	}
	if (self->role == lane_consumer)
		return on_request(msg, self);
	if (self->role == lane_provider)
		return on_answer(msg, self);
	if (self->role == lane_accepted)
		return inject(msg, self);
	return pass(msg, self);
}

/* The kernel wants a GPL-compatible program where BTF pointers are followed. */
char program_license[] SEC("license") = "Dual BSD/GPL";
