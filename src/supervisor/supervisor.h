/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor: runs a program so that its calls to the driver, and those of everything it starts, are judged from
 * outside, where it cannot reach. SECURITY.md says what that holds against. */
#ifndef FG_SUPERVISOR_SUPERVISOR_H
#define FG_SUPERVISOR_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "ledger/ledger.h"

struct supervisor_options {
	const struct ledger_settings *settings;	/* of the slice; settings->driver chooses the layouts */
	struct ledger_handle *published;	/* where others may look; NULL: nowhere. Stays the caller's */
	bool kill_on_breach;			/* SIGKILL the slice when it holds more than it was given */
	bool show_host;				/* --view host: answers are not rewritten */

	/* May be NULL. Called in the main thread with the ledger that counts, once the program runs; and before that
	 * ledger goes away, when the last process is gone. Threads may be started between the two. */
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

/* A message to a slice whose programs somebody else starts. With a listener (SCM_RIGHTS): serve it; without: end. */
enum supervisor_wish { SUPERVISOR_SERVE, SUPERVISOR_END, SUPERVISOR_KILL };

struct supervisor_message {
	int32_t wish;		/* enum supervisor_wish */
	int32_t pid;		/* of the listener's first process; 0: not known, it was started in a container that is served */
	char id[256];		/* of the container */
};

/* A slice whose programs somebody else starts under a filter like ours: of a container, or of several. */
struct supervisor_remote {
	int listener;		/* the first; taken over, also on failure. -1: none yet */
	struct supervisor_message first;	/* that came with it */
	int agent;		/* listening SOCK_SEQPACKET socket, for messages; each is answered by an int32_t: 0 when it is
				 * done, or negative errno: -EBUSY when it is to end and there are processes */
	bool is_standing;	/* goes on when there is no listener, until a message ends it */
	bool (*is_member)(pid_t pid, void *arg);	/* of the slice, or of what it descends from; from any thread */
	/* A listener comes: its number, 0 or more, or negative errno: it is not served. Then: its last process is gone. */
	int (*joins)(const struct supervisor_message *message, void *arg);
	void (*leaves)(int number, void *arg);
	void (*started)(void *arg);	/* called once, when calls are served */
	void *arg;
};

/* Serve listeners until the last process of each is gone, and, of a standing slice, a message ends it. Only the calling
 * process is changed, for good: it is not dumpable any more, and capabilities not needed are not effective.
 *
 * Returns 0; -ENODEV, -ENOTSUP without a driver that we know; other negative errno. err has the sentence. */
int supervisor_serve(const struct supervisor_remote *remote, const struct supervisor_options *options,
		     struct error *err);

/* Whether supervision works here, by trying all its parts on a child that runs no program. Returns 0, -EBUSY when this
 * process is supervised already, or negative errno; err says what is missing. */
int supervisor_probe(struct error *err);

#endif
