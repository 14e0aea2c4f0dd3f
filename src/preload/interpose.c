/* SPDX-License-Identifier: Apache-2.0 */
/* libc's door: the calls we stand in for. Here, and only here, errors become -1 and errno; a call that
 * succeeds leaves errno as it found it. */
#undef _FILE_OFFSET_BITS	/* it renames mmap to mmap64 */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "preload/debug.h"
#include "preload/guard.h"
#include "preload/process.h"
#include "preload/raw.h"

#define EXPORT __attribute__((visibility("default")))

#ifdef __GLIBC__
typedef unsigned long request_type;
#else
typedef int request_type;
#undef mmap64
#endif

EXPORT void *mmap64(void *address, size_t length, int prot, int flags, int fd, off_t offset);

/* How deep this thread is in code of ours: calls that come from there are none of the program's. Calls on
 * devices are judged all the same: our code makes none of those here, so they are a signal handler's. */
static __thread int depth __attribute__((tls_model("initial-exec")));

static __attribute__((constructor)) void at_load(void)
{
	int saved = errno;

	process_init();
	debug_init();
	errno = saved;
}

static long leave(long result, int saved)
{
	depth--;
	if (raw_is_error(result)) {
		errno = (int)-result;
		return -1;
	}
	errno = saved;
	return result;
}

EXPORT int ioctl(int fd, request_type request, ...)
{
	int saved = errno;
	void *argument;
	va_list list;

	va_start(list, request);
	argument = va_arg(list, void *);
	va_end(list);
	depth++;
	return (int)leave(guard_ioctl(fd, (unsigned long)request, argument), saved);
}

static void *map(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	int saved = errno;

	depth++;
	return (void *)leave(guard_mmap(address, length, prot, flags, fd, offset), saved);
}

EXPORT void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return map(address, length, prot, flags, fd, offset);
}

EXPORT void *mmap64(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return map(address, length, prot, flags, fd, offset);
}

EXPORT int munmap(void *address, size_t length)
{
	int saved = errno;

	if (depth++)
		return (int)leave(SYS_CALL(SYS_munmap, address, length), saved);
	return (int)leave(guard_munmap(address, length), saved);
}

EXPORT int close(int fd)
{
	int saved = errno;

	if (!depth++ && guard_is_ledger(fd))
		return (int)leave(0, saved);
	guard_forget(fd);
	return (int)leave(sys_close(fd), saved);
}
