/* SPDX-License-Identifier: Apache-2.0 */
/* Copies from and to addresses the program gave us, which may be bad. */
#ifndef FG_PRELOAD_MEMORY_H
#define FG_PRELOAD_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Copy size bytes. Never faults: the kernel does the copy. Returns 0, -EFAULT when a byte cannot be reached
 * (some of those before it may have been copied), or -EMFILE and the like when the fallback finds no
 * descriptor. */
int memory_read(uint64_t address, void *buffer, size_t size);
int memory_write(uint64_t address, const void *buffer, size_t size);

#endif
