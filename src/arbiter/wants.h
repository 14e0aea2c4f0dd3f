/* SPDX-License-Identifier: Apache-2.0 */
/* Who wants the GPU, from what the meter saw: a slice whose gate is open and that is not on the GPU has no work. Behind a
 * closed gate nothing is seen, so what was known before stays true until its next turn. Pure. */
#ifndef FG_ARBITER_WANTS_H
#define FG_ARBITER_WANTS_H

#include <stdbool.h>
#include <stdint.h>

struct wants {
	bool wants;
	bool open;
	uint64_t busy_ns;	/* as the meter last said */
	uint64_t idle_since_ns;	/* open and not on the GPU since then */
	uint64_t doubt_ns;	/* when its work was last doubted */
};

/* Longest gap between two pieces of work that still counts as busy. It covers the 0.3 ms that a gate takes to open and
 * a timeslice of 2 ms of somebody else. */
#define WANTS_GAP_NS UINT64_C(2500000)

/* A context without work stays on the GPU until another comes. So one that has stayed this long is doubted for one
 * moment: others that it kept away may come, and if it has work it is back at once. */
#define WANTS_DOUBT_NS UINT64_C(100000000)

/* open: the gate since the last call. busy_ns: on the GPU up to now, counted from any fixed point.
 * stay_ns: how long it has been there without a switch. Returns whether the
 * slice wants the GPU. */
bool wants_update(struct wants *w, bool open, uint64_t busy_ns, uint64_t stay_ns, uint64_t now_ns);

#endif
