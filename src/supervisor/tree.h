/* SPDX-License-Identifier: Apache-2.0 */
/* All processes below one, as /proc shows them. */
#ifndef FG_SUPERVISOR_TREE_H
#define FG_SUPERVISOR_TREE_H

#include <stdbool.h>
#include <sys/types.h>

/* Call fn for each descendant of root, and for each process that is_member (may be NULL) names and its descendants,
 * until it returns true. Returns whether one did. A process that is being made meanwhile may be missed. */
bool tree_find(pid_t root, bool (*is_member)(pid_t pid, void *arg), void *member_arg,
	       bool (*fn)(pid_t pid, void *arg), void *arg);

/* Whether a process has a file open whose name ends in name. False too where we may not look. */
bool process_has_file(pid_t pid, const char *name);

/* Whether a process has the very open file that our descriptor file is, under such a name. False too where the kernel
 * does not tell (kcmp(2)). */
bool process_shares_file(pid_t pid, int file, const char *name);

#endif
