/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the driver share: its state, and small questions about it. */
#ifndef FG_GATE_INTERNAL_H
#define FG_GATE_INTERNAL_H

#include <string.h>

#include "arbiter/arbiter.h"
#include "arbiter/wants.h"
#include "gate/driver.h"
#include "gate/guard.h"
#include "rm/rm.h"

/* One slice on one GPU. */
struct lane {
	uint32_t gpu;		/* of the slice's ledger */
	bool used;
	bool open;
	bool is_remote;		/* a member's */
	uint32_t channels;
	uint64_t report_at_ns;
	uint32_t seen_holds, seen_free;	/* the account when its channels were last collected */
	uint64_t look_at_ns;
	struct wants wants;
	/* The meter's figure, cut to what an open gate made possible: a context may stay on the GPU behind its gate. */
	bool measured;
	uint64_t raw_ns, busy_ns, possible_ns, since_ns, switches;
};

struct slice {
	struct ledger_handle *ledger;	/* of ours */
	struct gate_member *member;	/* somebody else's; owned. Neither: free */
	uint32_t generation;
	bool is_set;		/* arbiters know generation, or the member's settings */
};

/* What there is for each GPU of rm. */
struct desk {
	struct arbiter arbiter;
	struct meter meter;
	struct meter_reader reader;
	bool tried_meter;
	bool pids_fit;			/* the meter has seen a process of ours: who it has not seen has not run */
	uint64_t apply_after_ns;	/* back-off */
	uint64_t pids_at_ns;
	bool is_followed;		/* somebody else decides */
	struct lane lanes[ARBITER_SLICES];
};

struct gate_driver {
	struct rm rm;
	struct gate_options options;
	struct gate_port port;
	struct guard guard;
	struct slice slices[ARBITER_SLICES];
	struct desk desks[ACCOUNT_GPUS];
};

static inline uint32_t load_u32(const void *word)
{
	return __atomic_load_n((const uint32_t *)word, __ATOMIC_ACQUIRE);
}

static inline bool slice_is_used(const struct slice *s)
{
	return s->ledger || s->member;
}

/* The first free place, or -ENOSPC. */
int gate_free_slice(const struct gate_driver *d);

/* Which GPU of ours a GPU of a ledger is; -1: not attached here. */
int gate_find_gpu(const struct rm *rm, uint32_t gpu_id);

/* Into a ledger, for `fracgpu stat`. */
void gate_put_figures(struct ledger_compute *to, const struct gate_figures *figures);

#endif
