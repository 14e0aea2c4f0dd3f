/* SPDX-License-Identifier: Apache-2.0 */
/* Raw system calls for code that runs inside strangers' processes: they return the value or -errno, leave errno alone,
 * pass by whatever interposes libc's wrappers, and need no symbol but syscall(). 64-bit ABIs only.
 * Arguments past the sixth must be longs: they travel on the stack, where an int is half a word below garbage. */
#ifndef FG_BASE_SYSCALL_H
#define FG_BASE_SYSCALL_H

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SYS_CALL(...)                                 \
	({                                            \
		int sys_errno = errno;                \
		long sys_value = syscall(__VA_ARGS__); \
		if (sys_value == -1)                  \
			sys_value = -errno;           \
		errno = sys_errno;                    \
		sys_value;                            \
	})

static inline int sys_close(int fd)
{
	return (int)SYS_CALL(SYS_close, fd);
}

static inline int sys_getpid(void)
{
	return (int)SYS_CALL(SYS_getpid);
}

static inline int sys_openat(int dir, const char *path, int flags, unsigned int mode)
{
	return (int)SYS_CALL(SYS_openat, dir, path, flags, mode);
}

static inline ssize_t sys_read(int fd, void *buffer, size_t size)
{
	return (ssize_t)SYS_CALL(SYS_read, fd, buffer, size);
}

static inline int sys_fcntl(int fd, int command, unsigned long argument)
{
	return (int)SYS_CALL(SYS_fcntl, fd, command, argument);
}

#endif
