/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes that release what a variable holds when it goes out of scope. */
#ifndef FG_BASE_CLEANUP_H
#define FG_BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_fn(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close_fn(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_file_fn(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void cleanup_dir_fn(DIR **d)
{
	if (*d)
		closedir(*d);
}

#define cleanup_free __attribute__((cleanup(cleanup_free_fn)))
#define cleanup_close __attribute__((cleanup(cleanup_close_fn)))
#define cleanup_file __attribute__((cleanup(cleanup_file_fn)))
#define cleanup_dir __attribute__((cleanup(cleanup_dir_fn)))

/* Hand a pointer or descriptor over and leave nothing behind. */
#define TAKE_PTR(p)                      \
	({                               \
		typeof(p) take_p = (p);  \
		(p) = NULL;              \
		take_p;                  \
	})
#define TAKE_FD(fd)                      \
	({                               \
		int take_fd = (fd);      \
		(fd) = -1;               \
		take_fd;                 \
	})

#endif
