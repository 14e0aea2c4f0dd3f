/* SPDX-License-Identifier: Apache-2.0 */
/* Changing a slice while it runs: the socket SLICE/control, served by the `fracgpu run` that made the slice, or by the
 * process that serves a container.
 *
 * A request is one line of JSON, an object with some of:
 *   "memory" (as --memory), "compute", "weight", "priority" (as the options of run): strings
 *   "paused": true or false
 *   "end": "empty" or "kill": a slice that was made to stay ends, unless somebody is in it; or they are killed
 *   "publish": true: bring the slice's ledger file up to date
 * The answer is one line: {"ok": true, "notes": ["...", ...]} or {"error": "..."}; nothing has changed then, or what has
 * changed has no effect yet. The answer comes when the gates have moved.
 *
 * Served to processes of the same user and to root, but not to a process that descends from this or another `fracgpu
 * run`: a tenant must not change its own limits. */
#ifndef FG_CLI_CONTROL_H
#define FG_CLI_CONTROL_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "gate/driver.h"

enum { CONTROL_LINE = 4096 };

struct control {
	int listener;			/* -1: not open */
	int wake;			/* eventfd: end */
	bool is_running;
	pthread_t thread;
	struct ledger_handle *ledger;	/* what counts */
	struct ledger_handle *published;	/* a copy to look at; NULL: ledger is the file itself */
	/* Between control_open() and control_start(); NULL: no such question. */
	bool (*is_tenant)(pid_t pid, void *arg);	/* whether a process is of the slice, besides those below this one */
	/* Whether the slice may have these limits (0: it stays). A descriptor that is closed once they are published, or
	 * negative errno. */
	int (*may_set)(const uint64_t limits[ACCOUNT_GPUS], void *arg, struct error *err);
	int (*end)(bool kill, void *arg, struct error *err);	/* NULL: it ends by itself */
	void *arg;
	struct gate_options options;
	struct gate_thread gates;	/* started by the first setting that needs it */
};

/* Whether who is behind a connected socket is of our user and in no slice: for struct gate_options. */
bool control_may_join(int peer);

/* Make the socket in a slice's directory. Call before the program starts. Returns 0 or negative errno. */
int control_open(struct control *c, const char *slice_path, struct error *err);

/* Serve, in a thread, and drive the gates when they are needed. The ledgers stay the caller's, until control_stop(). */
int control_start(struct control *c, struct ledger_handle *ledger, struct ledger_handle *published);

/* Open all gates, end the threads, close the socket. Fine when it was not started. */
void control_stop(struct control *c);

/* Send a request (taken over) to who serves a slice's directory. *ret_answer is to be released.
 *
 * Returns 0; -ECONNREFUSED when nobody serves the slice, -ENOENT when there is no such slice; other negative errno, or
 * -EREMOTEIO when it was refused; err has the sentence. */
int control_ask(const char *slice_path, json_t *request, json_t **ret_answer, struct error *err);

#endif
