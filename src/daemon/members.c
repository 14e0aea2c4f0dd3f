/* SPDX-License-Identifier: Apache-2.0 */
/* Containers by what the kernel says of their processes. */
#include "daemon/members.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { CGROUP_TEXT = 4096 };

static bool read_cgroup(pid_t pid, char text[CGROUP_TEXT])
{
	char path[32];
	cleanup_file FILE *file = NULL;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	file = fopen(path, "re");
	n = file ? fread(text, 1, CGROUP_TEXT - 1, file) : 0;
	text[n] = '\0';
	return n != 0;
}

static ino_t read_namespace(pid_t pid)
{
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
	return stat(path, &st) == 0 ? st.st_ino : 0;
}

void members_init(struct members *m)
{
	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->lock, NULL);
}

static int learn(struct member *member, const char *id, pid_t pid)
{
	char ours[CGROUP_TEXT], theirs[CGROUP_TEXT];

	snprintf(member->id, sizeof(member->id), "%s", id);
	member->pid = pid;
	member->pid_namespace = read_namespace(pid);
	if (member->pid_namespace == read_namespace(getpid()))
		member->pid_namespace = 0;
	member->cgroup = NULL;
	if (!read_cgroup(pid, theirs) || !read_cgroup(getpid(), ours) || strcmp(ours, theirs) == 0)
		return 0;
	member->cgroup = strdup(theirs);
	return member->cgroup ? 0 : -ENOMEM;
}

static int join(struct members *m, const char *id, pid_t pid)
{
	int room = -1;

	for (int i = 0; i < MEMBERS; i++) {
		if (!m->list[i].listeners) {
			room = room < 0 ? i : room;
		} else if (strcmp(m->list[i].id, id) == 0) {
			m->list[i].listeners++;
			return i;
		}
	}
	if (pid <= 0)
		return -ESRCH;
	if (room < 0)
		return -ENOSPC;
	if (learn(&m->list[room], id, pid) < 0)
		return -ENOMEM;
	m->list[room].listeners = 1;
	return room;
}

int members_join(struct members *m, const char *id, pid_t pid)
{
	int number;

	pthread_mutex_lock(&m->lock);
	number = join(m, id, pid);
	pthread_mutex_unlock(&m->lock);
	return number;
}

bool members_leave(struct members *m, int number, char *ret_id)
{
	struct member *member = &m->list[number];
	bool is_last;

	pthread_mutex_lock(&m->lock);
	is_last = --member->listeners == 0;
	if (is_last) {
		memcpy(ret_id, member->id, MEMBER_ID);
		free(TAKE_PTR(member->cgroup));
	}
	pthread_mutex_unlock(&m->lock);
	return is_last;
}

bool members_has(struct members *m, pid_t pid)
{
	ino_t pid_namespace = read_namespace(pid);
	char cgroup[CGROUP_TEXT];
	bool has_cgroup = read_cgroup(pid, cgroup), found = false;

	pthread_mutex_lock(&m->lock);
	for (int i = 0; i < MEMBERS && !found; i++) {
		const struct member *member = &m->list[i];

		if (!member->listeners)
			continue;
		found = pid == member->pid || (pid_namespace && member->pid_namespace == pid_namespace) ||
			(has_cgroup && member->cgroup && strcmp(member->cgroup, cgroup) == 0);
	}
	pthread_mutex_unlock(&m->lock);
	return found;
}
