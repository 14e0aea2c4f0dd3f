/* SPDX-License-Identifier: Apache-2.0 */
/* System calls on memory mappings, without libc's wrappers: those are what this library stands in for. */
#ifndef FG_PRELOAD_RAW_H
#define FG_PRELOAD_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/syscall.h"

/* Whether a result that may be an address is an error. */
static inline bool raw_is_error(long result)
{
	return result < 0 && result > -4096;
}

/* mmap() takes six whole words: int arguments would leave half of each undefined. */
static inline long raw_mmap(uint64_t address, size_t length, int prot, int flags, int fd, int64_t offset)
{
	return SYS_CALL(SYS_mmap, address, length, (long)prot, (long)flags, (long)fd, offset);
}

#endif
