/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor: runs a program so that its calls to the driver, and those of everything it starts, are judged from
 * outside, where it cannot reach. SECURITY.md says what that holds against. */
#ifndef FG_SUPERVISOR_SUPERVISOR_H
#define FG_SUPERVISOR_SUPERVISOR_H

#include <stdbool.h>

#include "base/error.h"
#include "ledger/ledger.h"

struct supervisor_options {
	const struct ledger_settings *settings;	/* of the slice; settings->driver chooses the layouts */
	struct ledger_handle *published;	/* where others may look; NULL: nowhere. Stays the caller's */
	bool kill_on_breach;			/* SIGKILL the slice when it holds more than it was given */
	bool show_host;				/* --view host: answers are not rewritten */
};

/* Run a program (argv, found by PATH) and serve it and all it starts until the last of them is gone. For the time of the
 * call this process reaps all children, its own and the orphans of the program's; SIGTERM, SIGINT, SIGHUP, SIGQUIT,
 * SIGUSR1, SIGUSR2, SIGWINCH and SIGCONT are passed on to the program; capabilities not needed are not effective. One
 * at a time, from the main thread, with no other thread running.
 *
 * ret_status  of the program, as from waitpid()
 *
 * Returns 0; -ENOENT, -EACCES, ... when the program cannot be run; -EBUSY when this process is supervised already;
 * -ENODEV, -ENOTSUP without a driver that we know; other negative errno when the kernel does not allow it. err has the
 * sentence. The program has then not run. */
int supervisor_run(char *const argv[], const struct supervisor_options *options, int *ret_status, struct error *err);

/* Whether supervision works here, by trying all its parts on a child that runs no program. Returns 0, -EBUSY when this
 * process is supervised already, or negative errno; err says what is missing. */
int supervisor_probe(struct error *err);

#endif
