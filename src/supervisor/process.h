/* SPDX-License-Identifier: Apache-2.0 */
/* The supervised processes that use the GPU: who called, its files, its life.
 *
 * A process gets an entry and a ledger slot with its first call on an NVIDIA file. Its pidfd names it for good: a
 * process number that comes again is noticed. Lock order: struct processes.lock before the ledger's lock. */
#ifndef FG_SUPERVISOR_PROCESS_H
#define FG_SUPERVISOR_PROCESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ledger/ledger.h"

enum {
	PROCESS_THREADS = 4096,	/* remembered thread numbers */
	PROCESS_RECENT = 64,	/* bookings of managed memory that may not be mapped yet */
	PROCESS_SETTLE_MS = 2000,	/* and after this time they are taken for failed */
};

/* Managed memory is booked before the mmap() that is then made by the process itself, out of our sight. */
struct process_booking {
	uint64_t start, end;
	uint64_t time_ms;
	pid_t tid;		/* who went to map it; its next call shows that it is done */
};

struct process {
	bool used;
	bool is_dead;		/* seen dead; still here: the driver holds memory for it */
	bool has_uvm;		/* made an address space of nvidia-uvm its own (UVM_INITIALIZE) */
	int uvm_copy;		/* of the file that has its ranges, while it lives; -1: none yet */
	pid_t pid;
	uint64_t start_time;
	int pidfd;
	uint16_t slot;
	uint32_t refs;		/* calls in progress */
	uint32_t next_recent;
	struct process_booking recent[PROCESS_RECENT];
};

struct processes {
	pthread_mutex_t lock;
	struct ledger_handle *ledger;
	int epoll;		/* told of each pidfd, with the entry's index as data */
	pid_t self;		/* getpid() is a system call */
	struct process entries[LEDGER_SLOTS];
	struct {
		pid_t tid;
		uint16_t entry;	/* index + 1; 0: empty */
	} threads[PROCESS_THREADS];
};

/* Which process a notification came from. */
struct caller {
	struct process *process;	/* referenced; NULL: has no entry */
	pid_t tid, pid;
	int pidfd;		/* ours to close when process is NULL */
};

int processes_init(struct processes *ps, struct ledger_handle *ledger, int epoll);
void processes_done(struct processes *ps);

/* Find who a thread belongs to. Returns 0 or negative errno: the thread is gone, or /proc is not ours to read. */
int caller_find(struct processes *ps, pid_t tid, struct caller *ret);

/* Forget which process a thread number was: after -ESRCH for a caller found by memory. */
void processes_forget_thread(struct processes *ps, pid_t tid);

/* A copy of one of the caller's descriptors, close-on-exec. Returns it; -EBADF, -EPERM (cannot be looked into), -ESRCH
 * (gone), ... */
int caller_file(struct processes *ps, struct caller *c, int fd);

/* Give the caller an entry. Returns 0, or -ENOSPC when the slice has too many processes. */
int caller_enter(struct processes *ps, struct caller *c);

void caller_done(struct processes *ps, struct caller *c);

/* Whether a number is that of a living or still counted process of the slice. */
bool processes_has(struct processes *ps, pid_t pid);

/* Remember a booking of managed memory by a thread, forget those of this thread, which are settled now; whether one
 * overlaps a range. Under the lock. */
void process_booked(struct process *p, pid_t tid, uint64_t start, uint64_t length);
void process_settled(struct process *p, pid_t tid);
bool process_is_recent(const struct process *p, uint64_t start, uint64_t end);

/* Which of its UVM files a process calls on: 1 for the one that has its ranges, which this call (makes_range) may make it,
 * 2 for any other; 0: cannot tell. We hold a copy, so that no other file can pass for it. Under the lock. */
uint32_t process_uvm_file(const struct processes *ps, struct process *p, int file, bool makes_range);

/* Let go of what we hold: what is left of its memory is then the driver's to free. Under the lock. */
void process_let_go(struct process *p);

/* Free an entry whose holds are dropped. Under the lock, refs 0. */
void process_free(struct processes *ps, struct process *p);

/* Whether it has ended. */
bool process_has_ended(const struct process *p);

/* Milliseconds on the monotonic clock. */
uint64_t clock_ms(void);

#endif
