/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* outcome.h: what can happen at a hook. Every verdict counts exactly one; Go
 * reads the names from the object. Append only: the numbers are pinned.
 */
#pragma once

enum outcome {
	/* connect.h */
	not_tcp,          /* UDP, raw, SCTP: untouched */
	exempt,           /* one of the mesh's own sockets: untouched */
	not_enrolled,     /* no workload in this network namespace: untouched */
	loopback,         /* never a destination: untouched */
	no_destination,   /* nothing published for it: untouched */
	no_listener,      /* the pod has no outbound listener of this family: untouched */
	bound_to_device,  /* cannot reach the listener on lo: untouched */
	storage_refused,  /* no memory for the socket's state: untouched, or unbridged */
	steered,          /* aimed at the outbound listener */

	/* sockops.h */
	bridge_full,      /* the entry could not be written; the connection will be closed */
	bridged,          /* the accepted socket knows what the connecting one meant */
	direct,           /* somebody dialled the outbound listener itself */

	/* sockopt.h, name.h */
	original_dst_answered,
	peer_shown,
	self_shown,

	/* lookup.h */
	lookup_passed,    /* not a port where something must act */
	lookup_self,      /* the pod calls itself, or the mesh calls the pod */
	lookup_assigned,  /* handed to the inbound listener */
	lookup_refused,   /* an enrolled port without its listener: reset, not let through */

	/* connect.h */
	unknown_counted,  /* in no entry of a table that only counts that: untouched */
	unknown_refused,  /* in no entry of a table that wants one: the connect fails */
	asked_steered,    /* the agent asks whether the way works: aimed at the outbound listener */

	/* lookup.h */
	lookup_probe,     /* kubelet's, at a port where something must act: not handed over */

	/* probe.h */
	probe_noted,      /* a connection of kubelet begins, to anywhere */
	probe_full,       /* it could not be written down: a pod takes it as anybody's */
};

/* Room for what later versions count: the size of a pinned map must not change. */
#define MAX_OUTCOMES 64
_Static_assert(probe_full < MAX_OUTCOMES, "counters is too small");
