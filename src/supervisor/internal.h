/* SPDX-License-Identifier: Apache-2.0 */
/* What the supervisor's files share.
 *
 * Threads: workers receive, judge and answer notifications; the main thread watches deaths, figures and signals.
 * Lock order: calls (a worker reads it around each judged call, the main thread writes it to compare at rest), then
 * sweep, then processes.lock, then the ledger's lock. */
#ifndef FG_SUPERVISOR_INTERNAL_H
#define FG_SUPERVISOR_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "rm/rm.h"
#include "supervisor/listener.h"
#include "supervisor/process.h"
#include "supervisor/supervisor.h"

enum { SUPERVISOR_THREADS = 7 };	/* a sentinel and workers: workers.c */

struct supervisor;

/* A listener and the workers that answer it. */
struct serving {
	struct supervisor *supervisor;
	int listener;
	bool is_interruptible;		/* signals may end the wait for an answer: replay.h */
	atomic_bool is_stopping;
	atomic_bool is_watched;		/* the sentinel looks whether somebody waits */
	atomic_uint_fast32_t receivers;	/* that wait for a call, or are on their way */
	atomic_uint_fast64_t received;	/* calls */
	pthread_mutex_t lock;		/* of the two below */
	pthread_cond_t wake, wake_sentinel;
	uint32_t asleep, called;
	pthread_t workers[SUPERVISOR_THREADS];
	uint32_t worker_count;
};

struct supervisor {
	struct ledger_handle *ledger;	/* what counts, in memory */
	struct ledger_handle *published;
	struct engine engine;
	struct rm rm;			/* our own client, to ask what processes hold */
	struct processes processes;
	struct serving serving;		/* of the program; in a container, of its first process */
	int epoll;
	int wake;			/* eventfd: the ledger changed */
	bool kill_on_breach;
	bool sees_pids;			/* the driver names processes as we do */
	pthread_rwlock_t calls;
	pthread_mutex_t sweep;
	atomic_bool is_dirty;		/* changed since it was published */
	atomic_bool is_look_due;	/* compare soon */
	atomic_uint_fast64_t drops;	/* times that something was dropped, by any thread */
	atomic_uint_fast64_t judged;	/* calls that we were asked about */
	uint64_t judged_when_checked;
	uint64_t next_publish_ms, next_check_ms;
	uint64_t next_look_ms;		/* 0: none */
	bool is_suspect;		/* the last look found more than is booked */
	bool (*is_member)(pid_t pid, void *arg);	/* of the slice, besides those below this process; may be NULL */
	void *member_arg;
	pid_t program;
};

/* Judge one call and answer it. */
void serve_answer(struct serving *serving, const union notification *n);

/* A thread that answers may be busy for long: see to it that another waits if there are calls. */
void serve_busy(struct serving *serving);

/* Start and stop the workers of serving->listener. serve_stop() returns when all have ended. */
int serve_start(struct serving *serving);
void serve_stop(struct serving *serving);

/* The parts that exist before there is a listener, and their end. The ledger stays the caller's. */
int supervisor_prepare(struct supervisor *s, const struct supervisor_options *options, struct error *err);
void supervisor_close(struct supervisor *s);

/* What the process is while it serves: as many files as may be, no look into it, no privileges that would be a tenant's. */
void supervisor_harden(void);

/* Drop what ended processes held, as far as the driver has let go of it, and managed memory that is not mapped any more;
 * the latter alone. Counted in drops. Any thread. */
void watch_reclaim(struct supervisor *s);
void watch_managed(struct supervisor *s);

/* Compare the managed memory of a living process with its mappings: drop what is not mapped, and, with adopt, book what
 * is mapped without. *ret_breached (may be NULL): it passes the limit. Returns whether something was dropped. */
bool managed_compare(struct supervisor *s, struct process *p, bool adopt, bool *ret_breached);

/* Learn what the driver can tell. */
void watch_prepare(struct supervisor *s);

/* The main thread's regular work: publish, drop, compare. Returns milliseconds until there is more. */
int watch_tick(struct supervisor *s);

/* Copy the ledger to the published one now. */
void watch_publish(struct supervisor *s);

#endif
