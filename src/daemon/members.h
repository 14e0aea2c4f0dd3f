/* SPDX-License-Identifier: Apache-2.0 */
/* Which processes are of the containers of a slice: those of their PID namespaces and control groups. */
#ifndef FG_DAEMON_MEMBERS_H
#define FG_DAEMON_MEMBERS_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

enum { MEMBERS = 128, MEMBER_ID = 256 };

struct member {
	unsigned int listeners; /* that live; 0: no container */
	char id[MEMBER_ID];
	pid_t pid; /* its first process */
	ino_t pid_namespace; /* 0: ours, which says nothing */
	char *cgroup; /* NULL: ours */
};

struct members {
	pthread_mutex_t lock;
	struct member list[MEMBERS];
};

void members_init(struct members *m);

/* A listener of a container comes; its first one brings a process. Returns the container's number; -ESRCH
 * when it was not here and names no process, -ENOSPC with 128 containers, -ENOMEM. */
int members_join(struct members *m, const char *id, pid_t pid);

/* One of its listeners is gone. Returns whether it was the last: the number is another's from now on; ret_id
 * (MEMBER_ID bytes) says whose it was. */
bool members_leave(struct members *m, int number, char *ret_id);

/* Whether a process is of one of them. From any thread. */
bool members_has(struct members *m, pid_t pid);

#endif
