/* SPDX-License-Identifier: Apache-2.0 */
/* The process' own mappings, from /proc/self/maps (Linux, Documentation/filesystems/proc.rst). */
#include "preload/maps.h"

#include <fcntl.h>
#include <string.h>

#include "base/syscall.h"

/* Read hexadecimal digits and the one character after them. */
static const char *read_hex(const char *p, uint64_t *ret)
{
	uint64_t value = 0;

	for (;; p++) {
		if (*p >= '0' && *p <= '9')
			value = value << 4 | (uint64_t)(*p - '0');
		else if (*p >= 'a' && *p <= 'f')
			value = value << 4 | (uint64_t)(*p - 'a' + 10);
		else
			break;
	}
	*ret = value;
	return *p ? p + 1 : p;
}

/* "start-end rwxs offset major:minor inode   path" */
static bool parse_line(const char *line, struct maps_entry *ret)
{
	const char *p = read_hex(line, &ret->start);

	p = read_hex(p, &ret->end);
	if (strlen(p) < 5)
		return false;
	ret->is_shared = p[3] == 's';
	p = read_hex(p + 5, &ret->offset);
	ret->path = strchr(p, '/');
	if (!ret->path)
		ret->path = "";
	return true;
}

/* Hand out the whole lines at the start of a buffer. Returns the bytes used; *ret_more tells whether fn
 * wants more. */
static size_t take_lines(char *buffer, size_t length, bool (*fn)(const struct maps_entry *, void *),
			 void *arg, bool *ret_more)
{
	size_t used = 0;
	char *end;

	while (*ret_more && (end = memchr(buffer + used, '\n', length - used))) {
		struct maps_entry entry;

		*end = '\0';
		if (parse_line(buffer + used, &entry))
			*ret_more = fn(&entry, arg);
		used = (size_t)(end - buffer) + 1;
	}
	return used;
}

int maps_each(bool (*fn)(const struct maps_entry *entry, void *arg), void *arg)
{
	char buffer[4096 + 256];	/* the longest line: PATH_MAX and the numbers */
	size_t length = 0;
	bool more = true;
	long got = 0;
	/* of the thread: those of a first thread that has ended are not shown (Linux 3.17) */
	int fd = sys_openat(AT_FDCWD, "/proc/thread-self/maps", O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		fd = sys_openat(AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	while (more && length < sizeof(buffer)) {
		size_t used;

		got = sys_read(fd, buffer + length, sizeof(buffer) - length);
		if (got == -EINTR)
			continue;
		if (got <= 0)
			break;
		length += (size_t)got;
		used = take_lines(buffer, length, fn, arg, &more);
		length -= used;
		memmove(buffer, buffer + used, length);
	}
	sys_close(fd);
	return got < 0 ? (int)got : 0;
}
