/* SPDX-License-Identifier: Apache-2.0 */
/* The judge behind the interposed calls: finds the slice, attaches to its ledger, asks the engine.
 *
 * All return what the system call returns, or negative errno; errno itself is left dirty. Any thread, any
 * time. */
#ifndef FG_PRELOAD_GUARD_H
#define FG_PRELOAD_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

long guard_ioctl(int fd, unsigned long request, void *argument);
long guard_mmap(void *address, size_t length, int prot, int flags, int fd, int64_t offset);
long guard_munmap(void *address, size_t length);

/* A descriptor is about to be closed: forget what file it was. */
void guard_forget(int fd);

/* Whether a descriptor is the ledger's, which the program must not close under us. */
bool guard_is_ledger(int fd);

#endif
