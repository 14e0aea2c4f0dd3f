/* SPDX-License-Identifier: Apache-2.0 */
/* The last hour of every slice and card, in memory of a fixed size; and counters that never go back.
 *
 * Pure: no clock, no files, no allocation. */
#ifndef FG_DAEMON_HISTORY_H
#define FG_DAEMON_HISTORY_H

#include "daemon/figures.h"

enum {
	HISTORY_POINTS = 240, /* an hour in steps of 15 s */
	HISTORY_STEP_S = 15,
	HISTORY_TRACKS = FIGURES_SLICES +
			 ACCOUNT_GPUS, /* a slice's GPU or a card; what finds no room has no history */
};

struct history_point {
	uint32_t used_mib, limit_mib; /* a card: held by its slices, given to them */
	int16_t busy_permille, throttled_permille; /* FIGURES_UNKNOWN */
	bool is_there;
};

/* A counter as its source has it, and without the source's new starts. */
struct history_counter {
	uint64_t raw, total;
};

struct history_track {
	bool is_used, is_seen;
	char slice[SLICE_NAME]; /* "": a card */
	char uuid[48];
	uint64_t serial;
	bool is_measured; /* ever */
	struct history_counter busy_ns, throttled_ns, switches;
	uint64_t sampled_busy_ns, sampled_throttled_ns; /* at the last step */
	bool is_sampled, was_measured;
	int32_t busy_permille, throttled_permille; /* of the last step */
	uint64_t first_step;
	struct history_point points[HISTORY_POINTS]; /* of step n at n % HISTORY_POINTS */
};

struct history {
	uint64_t step_ns;
	uint64_t step; /* number of the newest; 0: none yet */
	uint64_t sampled_ns;
	struct history_track tracks[HISTORY_TRACKS];
};

/* Start with zeroed memory. */
void history_init(struct history *h, uint32_t step_s);

/* After each reading: match the tracks with what is there, forget those of slices that are gone, and make the
 * counters of f such that never go back, although a source may start anew (the gates of a slice are only
 * driven while they are needed). */
void history_follow(struct history *h, struct figures *f);

/* When the next point is due, CLOCK_MONOTONIC. */
uint64_t history_due_ns(const struct history *h);

/* After history_follow(), when it is due: put a point into each track. Fills the shares in f. */
void history_sample(struct history *h, struct figures *f, uint64_t now_ns);

/* The track of a slice's GPU (or, with slice NULL, of a card), or NULL. */
const struct history_track *history_find(const struct history *h, const struct figures_slice *slice,
					 const char *uuid);

/* Number of points of a track, up to the newest; and one of them: 0 is the oldest. */
uint32_t history_count(const struct history *h, const struct history_track *t);
const struct history_point *history_point(const struct history *h, const struct history_track *t,
					  uint32_t index);

#endif
