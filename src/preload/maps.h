/* SPDX-License-Identifier: Apache-2.0 */
/* The process' own mappings, from /proc/self/maps. */
#ifndef FG_PRELOAD_MAPS_H
#define FG_PRELOAD_MAPS_H

#include <stdbool.h>
#include <stdint.h>

struct maps_entry {
	uint64_t start, end;
	uint64_t offset;	/* in the file */
	bool is_shared;
	const char *path;	/* "" when there is none; valid during the call */
};

/* Call fn for each mapping, lowest first, until it returns false. Signal safe; about 5 KiB of stack.
 * Returns 0 or negative errno. */
int maps_each(bool (*fn)(const struct maps_entry *entry, void *arg), void *arg);

#endif
