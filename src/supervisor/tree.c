/* SPDX-License-Identifier: Apache-2.0 */
/* All processes below one, as /proc shows them (Linux, Documentation/filesystems/proc.rst). */
#include "supervisor/tree.h"

#include <ctype.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

struct link {
	pid_t pid, parent;
	bool is_below;
};

/* Field 4 of /proc/PID/stat, behind the name, which may hold anything. */
static pid_t parent_of(pid_t pid)
{
	char path[32], line[512];
	cleanup_file FILE *file = NULL;
	const char *end;
	char state;
	int parent;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file || !fgets(line, sizeof(line), file))
		return -1;
	end = strrchr(line, ')');
	return end && sscanf(end + 1, " %c %d", &state, &parent) == 2 ? parent : -1;
}

static struct link *read_links(size_t *ret_count)
{
	cleanup_dir DIR *proc = opendir("/proc");
	const struct dirent *entry;
	struct link *links = NULL;
	size_t room = 0;

	*ret_count = 0;
	while (proc && (entry = readdir(proc))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		if (*ret_count == room) {
			struct link *more = reallocarray(links, room ? room * 2 : 256, sizeof(*links));

			if (!more)
				break;
			links = more;
			room = room ? room * 2 : 256;
		}
		links[*ret_count].pid = (pid_t)strtol(entry->d_name, NULL, 10);
		links[*ret_count].parent = parent_of(links[*ret_count].pid);
		links[*ret_count].is_below = false;
		(*ret_count)++;
	}
	return links;
}

static bool is_in(const struct link *links, size_t count, pid_t pid)
{
	for (size_t i = 0; i < count; i++) {
		if (links[i].pid == pid)
			return links[i].is_below;
	}
	return false;
}

bool tree_find(pid_t root, bool (*is_member)(pid_t pid, void *arg), void *member_arg,
	       bool (*fn)(pid_t pid, void *arg), void *arg)
{
	size_t count;
	cleanup_free struct link *links = read_links(&count);
	bool more = true, found = false;

	for (size_t i = 0; is_member && i < count; i++)
		links[i].is_below = is_member(links[i].pid, member_arg);
	while (more) {
		more = false;
		for (size_t i = 0; i < count; i++) {
			if (!links[i].is_below && (links[i].parent == root || is_in(links, count, links[i].parent)))
				links[i].is_below = more = true;
		}
	}
	for (size_t i = 0; i < count && !found; i++)
		found = links[i].is_below && fn(links[i].pid, arg);
	return found;
}

/* file -1: any open file of the name will do. */
static bool find_file(pid_t pid, int file, const char *name)
{
	char path[64], target[PATH_MAX];
	cleanup_dir DIR *dir = NULL;
	const struct dirent *entry;
	size_t want = strlen(name);

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		ssize_t length = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target));

		if (length < (ssize_t)want || memcmp(target + length - want, name, want) != 0)
			continue;
		if (file < 0 || syscall(SYS_kcmp, getpid(), pid, KCMP_FILE, file, atoi(entry->d_name)) == 0)
			return true;
	}
	return false;
}

bool process_has_file(pid_t pid, const char *name)
{
	return find_file(pid, -1, name);
}

bool process_shares_file(pid_t pid, int file, const char *name)
{
	return find_file(pid, file, name);
}
