/* SPDX-License-Identifier: Apache-2.0 */
/* Whose turn it is on one GPU: caps, weights, priorities.
 *
 * The arbiter is told which slices want the GPU and, where it is known, how long each has been on it; it answers which
 * gates are open and when it wants to be asked again. Time is CLOCK_MONOTONIC in ns and always an argument.
 *
 *  caps      A budget that is filled at the start of every period. Periods lie on the clock (shifted by phase_permille),
 *            so that whoever works a slice's gate comes to the same answer without talking. What a gate lets through
 *            after it was told to close is taken from the next budget. Over any 2 s a slice passes its cap by less than
 *            1 point of GPU time.
 *  weights   While two slices or more want the GPU, one at a time has it, for a quantum in proportion to its weight
 *            (deficit round robin). A hand-over loses 0.2 ms of the GPU's time, so a quantum is as long as the latency
 *            asked for allows, and 20 ms on the average where none was.
 *  priority  realtime goes before normal, normal before idle. Realtime leaves 5 % of each 200 ms to normal slices that
 *            want to run, as the kernel's own realtime class does, so that none can be locked out.
 *  conserving  When one slice alone wants the GPU every gate it may use is open and nothing is switched.
 *
 * Pure: no files, clock, locks or allocation. */
#ifndef FG_ARBITER_ARBITER_H
#define FG_ARBITER_ARBITER_H

#include <stdbool.h>
#include <stdint.h>

enum {
	ARBITER_SLICES = 64,
	ARBITER_WEIGHT_DEFAULT = 100,
	ARBITER_WEIGHT_MAX = 10000,
};

#define ARBITER_NEVER UINT64_MAX
#define ARBITER_LATENCY_MIN_NS UINT64_C(2000000)
#define ARBITER_LATENCY_MAX_NS UINT64_C(20000000)	/* a longer period would miss caps over 2 s by a point */

/* As in struct ledger's compute_priority: 0 is what nobody set. */
enum arbiter_priority {
	ARBITER_NORMAL = 0,
	ARBITER_REALTIME = 1,
	ARBITER_IDLE = 2,
};

struct arbiter_settings {
	uint32_t max_permille;		/* of GPU time; 0 or 1000: no cap */
	uint32_t weight;		/* 1..ARBITER_WEIGHT_MAX; 0: ARBITER_WEIGHT_DEFAULT */
	uint32_t priority;		/* enum arbiter_priority; anything else counts as normal */
	uint32_t phase_permille;	/* where in the period of the clock the slice's own begins */
	bool frozen;			/* closed, always */
};

struct arbiter_slice {
	struct arbiter_settings settings;
	bool used;
	bool wants;
	bool measured;		/* busy_seen_ns is a figure of the meter */
	uint64_t busy_seen_ns;
	int64_t estimate_ns;	/* charged on a guess since the meter last spoke */
	uint64_t charged_ns;	/* in all */
	/* cap */
	uint64_t period_ns;	/* 0: no cap */
	int64_t allowance_ns;	/* of one period */
	int64_t level_ns;	/* what is left; below 0: owed to the next period */
	uint64_t period;	/* number of the current one */
	uint64_t throttled_ns;	/* time it wanted to run and its cap kept it closed */
	/* weights */
	int64_t deficit_ns;	/* due in this round */
};

struct arbiter {
	struct arbiter_slice slices[ARBITER_SLICES];
	uint64_t now_ns;
	uint64_t latency_ns;	/* 0: none was asked for */
	uint64_t open;		/* bit i: gate of slice i */
	uint64_t contenders;	/* those that take turns; 0: no contention */
	int holder;		/* whose turn it is; -1: nobody's */
	int cursor;		/* who had the last turn */
	uint64_t turn_end_ns;	/* even if the holder used nothing */
	uint64_t realtime_period;
	int64_t realtime_level_ns;
};

/* latency_ns: longest wait for a turn that tenants accept where weights allow it; 0: the one that loses least. It is brought
 * into ARBITER_LATENCY_MIN_NS..MAX_NS. */
void arbiter_init(struct arbiter *a, uint64_t latency_ns, uint64_t now_ns);

/* The same latency, changed. */
void arbiter_latency(struct arbiter *a, uint64_t latency_ns, uint64_t now_ns);

/* Add a slice or change its settings. Returns 0, or -EINVAL (no such place, weight or permille out of range). */
int arbiter_set(struct arbiter *a, uint32_t slice, const struct arbiter_settings *settings, uint64_t now_ns);

/* Forget a slice. Its gate is no longer the arbiter's: the caller opens it. */
void arbiter_unset(struct arbiter *a, uint32_t slice, uint64_t now_ns);

/* Whether a slice has work for the GPU (a caller that cannot know says true). */
void arbiter_wants(struct arbiter *a, uint32_t slice, bool wants, uint64_t now_ns);

/* What the meter says: ns the slice has been on the GPU, counted from any fixed point. Takes the place of what was
 * guessed since the last report. */
void arbiter_measured(struct arbiter *a, uint32_t slice, uint64_t busy_ns, uint64_t now_ns);

/* Decide. Returns the open gates, bit i for slice i; *ret_next_ns is when to ask again if nothing changes before, or
 * ARBITER_NEVER. When gates change, open first and close then, so that the GPU has work all the time. */
uint64_t arbiter_step(struct arbiter *a, uint64_t now_ns, uint64_t *ret_next_ns);

/* The end: returns the gates to open, which are those of all slices, and forgets them. */
uint64_t arbiter_done(struct arbiter *a);

/* ns of a cap's period: the longest up to 20 ms whose closed part is no longer than the latency (0: any), and in which the gate
 * is neither open nor closed for less than 2 ms. It divides 2 s. For tests and documents. */
uint64_t arbiter_period_ns(uint32_t max_permille, uint64_t latency_ns);

#endif
