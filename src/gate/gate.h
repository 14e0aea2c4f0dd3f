/* SPDX-License-Identifier: Apache-2.0 */
/* Gates: the channels of slices on one GPU, held back and let go with FIFO_DISABLE_CHANNELS.
 *
 * Facts (docs/design.md; GPU H200, driver 580.159.04; kernel_fifo_ctrl.c, the same text 515 to 595): the control may name
 * any client's channels, takes 64 at the most, stops a kernel midway in 0.5 ms and lets it go on in 0.3 ms, and the
 * driver keeps no record: what is closed stays closed until somebody opens it, whoever dies. What is closed twice must be
 * opened twice (found on the H200: what was closed again to be sure never ran again). Hence the guard
 * (gate/guard.h): everything a gate closed stands in shared memory before the call that closes it. Queued work is never
 * dropped (bRewindGpPut stays 0). */
#ifndef FG_GATE_GATE_H
#define FG_GATE_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/account.h"

enum {
	GATE_CHANNELS = 16384,	/* of all slices of one GPU; more are not held back, and gate_collect() says so */
	GATE_SLICES = 64,
	/* Engine types of the graphics and compute engines are up to this one, GR7 (cl2080_notification.h). 0 is a channel
	 * whose engine nobody named: it may be one. */
	GATE_ENGINE_LAST = 8,
};

/* A way to the driver, so that tests need none. control() passes DISABLE_SIZE bytes of
 * NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS to a GPU and returns the status word, or negative errno. It is called in a forked
 * child, too, so it may use system calls only. */
struct gate_port {
	int (*control)(void *arg, uint32_t gpu, void *params, uint32_t size);
	void *arg;
};

enum gate_state {
	GATE_OPEN,
	GATE_CLOSED,	/* or about to be */
	GATE_UNSURE,	/* the call that should close it failed, or it was scheduled after */
	GATE_GONE,	/* the driver does not know this channel, the account still does */
};

enum gate_seen {
	GATE_UNSEEN,
	GATE_SEEN,
	GATE_LEAVING,	/* its account knows it no more, but it is closed: opened by the next gate_apply(), and dropped */
};

struct gate_channel {
	uint32_t client;
	uint32_t handle;
	uint16_t state;		/* enum gate_state */
	uint8_t slice;
	uint8_t seen;		/* by the collection under way: enum gate_seen */
	uint32_t schedules;	/* how often its owner has scheduled it */
};

/* Lives in memory shared with the guard. */
struct gate_set {
	uint32_t gpu;		/* as gate_port's control() knows it */
	uint32_t count;
	uint64_t calls;		/* made in all */
	uint64_t changes;	/* counts up when channels come, go or are scheduled anew */
	uint64_t retry_ns;	/* when to try again those that are gone: a handle may have been used anew */
	struct gate_channel channels[GATE_CHANNELS];
};

/* Start with zeroed memory. */
void gate_init(struct gate_set *set, uint32_t gpu);

/* Bring the channels of a slice up to date: those of engine GR (all others, copies say, run on) that the account holds on
 * its GPU account_gpu. New ones are open, as the driver makes them; gate_apply() then closes them where it must.
 * Returns the number of the slice's channels, or -ENOSPC when some found no room. The caller holds the ledger's lock. */
int gate_collect(struct gate_set *set, uint32_t slice, struct account *account, uint32_t account_gpu);

/* One channel, as told to who moves gates for others. */
struct gate_about {
	uint32_t client, handle, schedules;
};

/* The channels of a slice, from number first on: fills max entries at the most. Returns how many; *ret_total is that of all. */
uint32_t gate_describe(const struct gate_set *set, uint32_t slice, uint32_t first, struct gate_about *ret_list, uint32_t max,
		       uint32_t *ret_total);

/* The other end: a part of such a list, is_first to is_last, takes the place of what was known of the slice. Returns 0, or
 * -ENOSPC when some found no room. */
int gate_take(struct gate_set *set, uint32_t slice, const struct gate_about *list, uint32_t count, bool is_first, bool is_last);

/* Make the gates of slices (bit i for slice i) as open says: opens first, closes then, with as few calls as can be.
 * Channels the driver does not know are passed over until the account forgets them too.
 * Returns 0, or the first failure: negative errno, -EIO for a status that means trouble (wait before the next call). */
int gate_apply(struct gate_set *set, const struct gate_port *port, uint64_t open, uint64_t now_ns);

/* Open everything. System calls only. after: what state is noted; GATE_UNSURE when somebody may be about to close one. */
int gate_open_all(struct gate_set *set, const struct gate_port *port, enum gate_state after);

/* Open and forget the channels of a slice. */
int gate_forget(struct gate_set *set, const struct gate_port *port, uint32_t slice);

#endif
