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
	uint32_t timeslice_us;		/* of its groups, set when the set had counted so many changes */
	uint64_t timeslice_changes;
	uint64_t timeslice_again_ns, timeslice_wait_ns;	/* to be set once more: 0: not */
	uint64_t seen_ns, busy_since_ns;	/* realtime: last looked at; busy all the time since then, 0: not */
	uint32_t seen_holds, seen_free;	/* the account when its channels were last collected */
	uint64_t look_at_ns;
	struct wants wants;
	/* The meter's figure, cut to what an open gate made possible: a context may stay on the GPU behind its gate. */
	bool measured;
	bool has_strangers;		/* more processes than the meter can tell apart */
	uint64_t raw_ns, busy_ns, possible_ns, since_ns, switches;
	uint64_t shown_ns;	/* work, as far as it is sure; busy_ns is presence, and what the arbiter counts */
	struct gate_figures base;	/* of the slice before whoever measures it now began to: figures never step back */
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
	bool is_urgent;			/* a pause begins or ends: gates first, figures later */
	bool is_followed;		/* somebody else decides */
	uint32_t told_timeslice_us;
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

/* Timeslices. Realtime slices get the longest that the driver programs; beside them others get one so short that whoever has
 * priority waits for a switch and not for a timeslice. */
enum {
	TIMESLICE_USUAL_US = LEDGER_TIMESLICE_USUAL_US,
	TIMESLICE_REALTIME_US = LEDGER_TIMESLICE_REALTIME_US,
	TIMESLICE_BESIDE_US = 32,
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

/* Give all compute groups of a slice of ours this timeslice, if they do not have it. now 0: the last word. */
void gate_set_timeslices(struct gate_driver *d, uint32_t gpu, int slice, uint32_t us, uint64_t now);

/* Into a ledger, for `fracgpu stat`, on top of the lane's base. */
void gate_put_figures(struct ledger_compute *to, const struct lane *lane, const struct gate_figures *figures);

/* Somebody else begins or ends to decide for a GPU: what was measured and decided up to now is of another time. Figures go on. */
void gate_reset_desk(struct gate_driver *d, uint32_t gpu, bool is_followed);

#endif
