/* SPDX-License-Identifier: Apache-2.0 */
/* The listener of a filter: receiving notifications and answering them. */
#ifndef FG_SUPERVISOR_LISTENER_H
#define FG_SUPERVISOR_LISTENER_H

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdint.h>

/* Room for the kernel's own structures, which may grow. */
union notification {
	struct seccomp_notif data;
	char room[512];
};

union response {
	struct seccomp_notif_resp data;
	char room[512];
};

/* Whether this kernel's structures fit, and wake-ups are made synchronous where it can (Linux 6.6).
 * Returns 0, -EPROTO, or negative errno. */
int listener_prepare(int listener);

/* Returns 0, -EINTR, -ENOENT (the caller died meanwhile, or nobody is left), or negative errno. */
int listener_receive(int listener, union notification *n);

/* Returns 0, or -ENOENT when nobody waits for it any more. */
int listener_send(int listener, const union response *r);

/* Whether the caller still waits: what was read from it meanwhile was its own. */
bool listener_is_valid(int listener, uint64_t id);

/* Whether the last task with the filter is gone. */
bool listener_is_hung_up(int listener);

/* Whether a call waits to be received. */
bool listener_has_more(int listener);

#endif
