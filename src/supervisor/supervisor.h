/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor: runs a program so that its calls to the driver, and those of everything it starts, are judged from
 * outside, where it cannot reach. SECURITY.md says what that holds against. */
#ifndef FG_SUPERVISOR_SUPERVISOR_H
#define FG_SUPERVISOR_SUPERVISOR_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "ledger/ledger.h"

struct supervisor_options {
	const struct ledger_settings *settings;	/* of the slice; settings->driver chooses the layouts */
	struct ledger_handle *published;	/* where others may look; NULL: nowhere. Stays the caller's */
	bool kill_on_breach;			/* SIGKILL the slice when it holds more than it was given */
	bool show_host;				/* --view host: answers are not rewritten */

	/* May be NULL. Called in the main thread with the ledger that counts, once the program runs; and before that
	 * ledger goes away, when the last process is gone. Threads may be started between the two. supervisor_run() only. */
	void (*started)(struct ledger_handle *ledger, void *arg);
	void (*ended)(void *arg);
	void *arg;
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

/* A slice whose programs somebody else starts under a filter like ours: a container. */
struct supervisor_remote {
	int listener;		/* the container's; taken over, also on failure */
	int control;		/* listening SOCK_SEQPACKET socket: a message of an int32_t with another listener of the same
				 * container (SCM_RIGHTS) is answered by an int32_t: 0 when it is served, or negative errno */
	bool (*is_member)(pid_t pid, void *arg);	/* whether a process, or one that it descends from, is of the container */
	void (*started)(void *arg);	/* called once, when calls are served */
	void *arg;
};

/* Serve listeners until the last process of each is gone. Only the calling process is changed, for good: it is not
 * dumpable any more, and capabilities not needed are not effective.
 *
 * Returns 0; -ENODEV, -ENOTSUP without a driver that we know; other negative errno. err has the sentence. */
int supervisor_serve(const struct supervisor_remote *remote, const struct supervisor_options *options,
		     struct error *err);

/* Whether supervision works here, by trying all its parts on a child that runs no program. Returns 0, -EBUSY when this
 * process is supervised already, or negative errno; err says what is missing. */
int supervisor_probe(struct error *err);

#endif
