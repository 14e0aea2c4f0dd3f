/* SPDX-License-Identifier: Apache-2.0 */
/* The watchdog of the gates: a process that waits for the death (or the hanging) of the one that drives them, and then
 * opens whatever is closed. It costs a sleeping process and nothing else. */
#ifndef FG_GATE_GUARD_H
#define FG_GATE_GUARD_H

#include "gate/gate.h"

enum {
	GUARD_SETS = ACCOUNT_GPUS,
	GUARD_KEEP = GUARD_SETS + 2,	/* descriptors that the port needs */
};

/* Mapped in both. */
struct guard_shared {
	uint64_t beats;		/* the driver counts up at least once a second while something is closed */
	uint32_t reopened;	/* how often the guard found it hanging and opened everything */
	uint32_t set_count;
	struct gate_set sets[GUARD_SETS];
};

struct guard {
	struct guard_shared *shared;	/* NULL: not started */
	int pipe;			/* the guard sees this end close */
	int pid;			/* of the guard */
	uint32_t reopened;		/* as last seen */
};

/* Map the sets and start the guard. keep: count descriptors the port uses; the guard closes all others, among them
 * standard input, output and error, and leaves our session, so that it outlives a signal to our group.
 * stall_ms: how long without a beat counts as hanging, 0 never.
 * Returns 0 or negative errno. May be called in a process with threads. */
int guard_start(struct guard *g, uint32_t set_count, const struct gate_port *port, const int *keep, uint32_t count,
		uint32_t stall_ms);

/* Say that we are alive. Returns true when the guard took us for dead since the last time and opened everything: the
 * states in the sets say so. */
bool guard_beat(struct guard *g);

/* The guard opens what is still closed, and ends. Returns when it has. */
void guard_stop(struct guard *g);

#endif
