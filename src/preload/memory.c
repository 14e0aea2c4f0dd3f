/* SPDX-License-Identifier: Apache-2.0 */
/* Copies from and to addresses the program gave us, which may be bad.
 *
 * process_vm_readv() on ourselves is one system call and needs no rights, but a container's seccomp profile
 * may forbid it, and it cannot reach mappings of device memory. What it refuses goes through a pipe:
 * write() and read() copy just as the driver itself would.
 *
 * Both cost more than all else that we do. Programs have their arguments on the stack that we were called on, whose pages
 * stay as long as we do not return: what could be read there once is copied as it is. */
#include "preload/memory.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/uio.h>

#include "base/syscall.h"

enum {
	PIPE_CHUNK = 4096,	/* a pipe holds a page at the least */
	PAGE = 4096,		/* or a part of one */
	STACK_NEAR = 65536,	/* above us: the callers' frames */
};

/* Of this thread's stack: pages that could be read. Address of the first and, in its low bits, their number: one word, since
 * a signal handler may come here, too. */
static __thread uint64_t known_pages __attribute__((tls_model("initial-exec")));

static uint64_t known_start(uint64_t known)
{
	return known & ~(uint64_t)(PAGE - 1);
}

static uint64_t known_end(uint64_t known)
{
	return known_start(known) + (known & (PAGE - 1)) * PAGE;
}

/* Whether the range is near above this frame, on what may be our stack. */
static bool is_near(uint64_t address, size_t size)
{
	uint64_t here = (uint64_t)(uintptr_t)__builtin_frame_address(0);

	return address >= here && size <= STACK_NEAR && address - here <= STACK_NEAR - size;
}

static bool is_known(uint64_t address, size_t size)
{
	uint64_t known = known_pages;

	return is_near(address, size) && address >= known_start(known) && address + size <= known_end(known);
}

/* The range could be read. So that all from our frame to its end is known, a byte of each page between is read, too. */
static void learn(long thread, uint64_t address, size_t size)
{
	uint64_t start = (uint64_t)(uintptr_t)__builtin_frame_address(0) & ~(uint64_t)(PAGE - 1);
	uint64_t end = (address + size + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	struct iovec pages[STACK_NEAR / PAGE + 2], local;
	char bytes[STACK_NEAR / PAGE + 2];
	unsigned long count = (end - start) / PAGE;
	uint64_t known = known_pages;

	for (unsigned long i = 0; i < count; i++)
		pages[i] = (struct iovec){ (void *)(uintptr_t)(start + i * PAGE), 1 };
	local = (struct iovec){ bytes, count };
	if (SYS_CALL(SYS_process_vm_readv, thread, &local, 1UL, pages, count, 0UL) != (long)count)
		return;
	if (start <= known_end(known) && end >= known_start(known)) {
		start = start < known_start(known) ? start : known_start(known);
		end = end > known_end(known) ? end : known_end(known);
	}
	if ((end - start) / PAGE < PAGE)
		known_pages = start | (end - start) / PAGE;
}

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

/* Whose memory: not the process', whose first thread may be gone, and the memory with it. */
static long this_thread(void)
{
	return SYS_CALL(SYS_gettid);
}

static int copy(long number, long thread, void *ours, uint64_t theirs, size_t size)
{
	struct iovec local = { ours, size }, remote = { (void *)(uintptr_t)theirs, size };

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
	long thread;
	int result;

	if (is_known(address, size)) {
		memcpy(buffer, (const void *)(uintptr_t)address, size);
		return 0;
	}
	thread = this_thread();
	result = copy(SYS_process_vm_readv, thread, buffer, address, size);
	if (result == 0 && is_near(address, size))
		learn(thread, address, size);
	return result;
}

int memory_write(uint64_t address, const void *buffer, size_t size)
{
	if (is_known(address, size)) {
		memcpy((void *)(uintptr_t)address, buffer, size);
		return 0;
	}
	return copy(SYS_process_vm_writev, this_thread(), (void *)(uintptr_t)buffer, address, size);
}
