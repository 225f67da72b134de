//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* steer.c: how a connection gets from an application into the proxy, in the
 * order in which it meets the hooks. One object; package datapath loads the
 * cgroup programs together, take_lookup and note_sockops each apart from them.
 */
#include "kernel.h"  /* the kernel's side of the ABI */
#include "outcome.h" /* what can happen, and is counted */
#include "socket.h"  /* what is remembered of a socket */
#include "maps.h"    /* what else is remembered */
#include "address.h" /* IPv4, IPv6 and v4-mapped as one */

#include "connect.h" /* 1. the application connects: aim it at 15001 */
#include "sockops.h" /* 2. the handshake: tell the accepted socket what was meant */
#include "sockopt.h" /* 3. the proxy asks for the original destination */
#include "name.h"    /* 4. applications ask who they and their peers are */
#include "probe.h"   /* 5. kubelet probes a pod: write down whose connection that is */
#include "lookup.h"  /* 6. a connection arrives at the provider's pod: hand it to 15006 */

/* The kernel wants a GPL-compatible program where BTF pointers are followed. */
char program_license[] SEC("license") = "Dual BSD/GPL";
