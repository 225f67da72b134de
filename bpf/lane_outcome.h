/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_outcome.h: what can happen to a lane's sockets and messages. What takes the lane
 * is counted in the lane itself; here is why something did not. Append only.
 */
#pragma once

enum lane_outcome {
	/* lane_sockops.h */
	lane_consumer_joined,
	lane_consumer_refused, /* the map of sockets is full, or another's program has the socket */
	lane_provider_joined,
	lane_provider_refused,
	lane_storage_refused,
	lane_bridge_full,

	/* lane_ask.h */
	lane_bound_consumer,
	lane_bound_provider,
	lane_freed,

	/* lane_request.h: a message of a consumer goes to the proxy */
	request_unbound,  /* it is in no lane */
	request_closed,   /* its lane takes no requests */
	request_position, /* it begins in the middle of a frame */
	request_partial,  /* its header or names are not whole */
	request_kind,     /* not a call with an answer, or not of a serialization that is read */
	request_unknown,  /* no route, or it has no provider here */
	request_full,     /* the provider has too much to read */
	request_taken,    /* its flight is another's */

	/* lane_answer.h: a message of a provider goes to the proxy */
	answer_unbound,
	answer_closed,   /* its lane takes no answers, or not now */
	answer_position,
	answer_partial,
	answer_kind,     /* an event, a request, an error, an exception */
	answer_full,     /* the consumer has too much to read */
	answer_unknown,  /* not in flight: it came too late */
	answer_gone,     /* the consumer is */

	/* lane_inject.h */
	inject_gone,

	lane_reset, /* a socket was reset in the middle of a message: its rest is dropped */

	/* lane_room.h: memory for sockets may run out */
	lane_consumer_limited, /* a consumer's socket joins nothing: its cgroup limits sockets */
	request_memory,        /* of the provider: a message of a consumer goes to the proxy */
	answer_memory,         /* of the consumer: a message of a provider does */

	request_limited, /* lane_limit.h: as many are in flight to its cluster as may be */
	request_traced,  /* lane_trace.h: it is or may be part of a trace */
	request_remote,  /* lane_request.h: its cluster is the proxy's */

	/* lane_request.h, lane_answer.h: nobody knows where frames begin */
	request_astray,
	answer_astray,

	lane_consumer_scarce, /* a consumer's socket joins nothing: the host has little memory for TCP */
};

#define MAX_LANE_OUTCOMES 64
_Static_assert(lane_consumer_scarce < MAX_LANE_OUTCOMES, "lane_counts is too small");
