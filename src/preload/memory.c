/* SPDX-License-Identifier: Apache-2.0 */
/* Copies from and to addresses the program gave us, which may be bad.
 *
 * process_vm_readv() on ourselves is one system call and needs no rights, but a container's seccomp profile
 * may forbid it, and it cannot reach mappings of device memory. What it refuses goes through a pipe:
 * write() and read() copy just as the driver itself would. */
#include "preload/memory.h"

#include <fcntl.h>
#include <sys/uio.h>

#include "base/syscall.h"

enum { PIPE_CHUNK = 4096 };	/* a pipe holds a page at the least */

/* Move all bytes through a pipe, a chunk at a time. */
static int copy_by_pipe(uint64_t to, uint64_t from, size_t size)
{
	int ends[2];
	int result = (int)SYS_CALL(SYS_pipe2, ends, O_CLOEXEC);

	if (result < 0)
		return result;
	while (size) {
		size_t chunk = size < PIPE_CHUNK ? size : PIPE_CHUNK;

		result = -EFAULT;
		if (SYS_CALL(SYS_write, ends[1], from, chunk) != (long)chunk ||
		    SYS_CALL(SYS_read, ends[0], to, chunk) != (long)chunk)
			break;
		result = 0;
		from += chunk;
		to += chunk;
		size -= chunk;
	}
	SYS_CALL(SYS_close, ends[0]);
	SYS_CALL(SYS_close, ends[1]);
	return result;
}

static int copy(long number, void *ours, uint64_t theirs, size_t size)
{
	struct iovec local = { ours, size }, remote = { (void *)(uintptr_t)theirs, size };
	/* not the process: its first thread may be gone, and the memory with it */
	long thread = SYS_CALL(SYS_gettid);

	if (!size)
		return 0;
	if (SYS_CALL(number, thread, &local, 1UL, &remote, 1UL, 0UL) == (long)size)
		return 0;
	if (number == SYS_process_vm_readv)
		return copy_by_pipe((uintptr_t)ours, theirs, size);
	return copy_by_pipe(theirs, (uintptr_t)ours, size);
}

int memory_read(uint64_t address, void *buffer, size_t size)
{
	return copy(SYS_process_vm_readv, buffer, address, size);
}

int memory_write(uint64_t address, const void *buffer, size_t size)
{
	return copy(SYS_process_vm_writev, (void *)(uintptr_t)buffer, address, size);
}
