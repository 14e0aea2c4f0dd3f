/* SPDX-License-Identifier: Apache-2.0 */
/* Whose memory this is: the process that set us up, a forked child with a copy of it, or a vfork child that
 * shares it. The per-process lock. */
#ifndef FG_PRELOAD_PROCESS_H
#define FG_PRELOAD_PROCESS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

enum process_kind {
	PROCESS_OWNER,	/* set up by this process */
	PROCESS_NEW,	/* just loaded, or a forked child: what was set up is not this process' */
	PROCESS_GUEST,	/* a vfork child in its parent's memory: must leave everything as it is */
};

/* Zero in a forked child, where the kernel has MADV_WIPEONFORK (Linux 4.14). */
struct process {
	uint32_t lock;		/* futex: 0 free, 1 held, 2 held and waited for */
	int32_t pid;		/* of the process that set us up; 0: nobody has */
	uint32_t mapping;	/* managed mmaps between booking and the real call */
	uint32_t mapped;	/* managed mmaps ever begun */
	uint32_t attached;	/* slot + 1 of this process; 0: not known to be attached */
	uint32_t unchecked;	/* calls since it was last looked at whether that is still so */
};

/* At load, and at need before that. */
void process_init(void);
struct process *process_get(void);

/* Whether a forked child is told by its own copy of struct process being wiped. */
bool process_is_wiped(void);

enum process_kind process_kind(void);

/* Block signals and take the lock; never across a driver call, never in a PROCESS_GUEST. */
void process_lock(sigset_t *saved);
void process_unlock(const sigset_t *saved);

#endif
