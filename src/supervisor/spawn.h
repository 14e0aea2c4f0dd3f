/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a program under the filter. */
#ifndef FG_SUPERVISOR_SPAWN_H
#define FG_SUPERVISOR_SPAWN_H

#include <signal.h>
#include <sys/types.h>

#include "base/error.h"
#include "supervisor/filter.h"

struct spawned {
	pid_t pid;
	int listener;
	int report;	/* EOF once the program runs; else the errno of what failed */
};

/* Fork, load the filter in the child, and call run(arg) there, which returns a negative errno when it could not become
 * the program. mask: the child's signal mask. The child may already wait for the supervisor to answer it.
 *
 * Returns 0 or negative errno with a sentence in err: -EBUSY when we are supervised already. */
int spawn_filtered(const struct filter *filter, int (*run)(void *arg), void *arg, const sigset_t *mask, struct spawned *ret,
		   struct error *err);

/* Wait for the program to run. Returns 0, or the negative errno of run(). */
int spawn_wait_started(struct spawned *spawned);

#endif
