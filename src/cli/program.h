/* SPDX-License-Identifier: Apache-2.0 */
/* The program that `fracgpu run` starts: finding it, and whether a preloaded library would reach it. */
#ifndef FG_CLI_PROGRAM_H
#define FG_CLI_PROGRAM_H

#include "base/error.h"

/* Exit statuses of `run`, as env(1), timeout(1) and the shells have them. */
enum { EXIT_OURS = 125, EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127, EXIT_SIGNAL = 128 };

/* Find a program as execvp(3) does. ret_path has PATH_MAX bytes.
 * Returns 0, -ENOENT (found nowhere), or -EACCES (no permission, or a directory). */
int program_find(const char *name, char *ret_path, struct error *err);

/* The two builds of the preload library: for programs of glibc and of musl. */
#define LIBRARY_GLIBC "libfracgpu.so"
#define LIBRARY_MUSL "libfracgpu-musl.so"

/* Whether the loader will put a preloaded library into the program: not into a static one, nor one that gains
 * rights when started, nor one for another kind of processor. Looks through scripts at their interpreters.
 *
 * ret_library  which of the libraries fits
 *
 * Returns 0, or -ENOTSUP with the reason in err. */
int program_takes_preload(const char *path, const char **ret_library, struct error *err);

/* What to do while a program runs. */
struct program_watch {
	void (*started)(void *arg); /* after it was started; may start threads */
	void *arg;
};

/* Start the program in a child and wait for it and all that it leaves behind. Signals we get are passed on to
 * it; those that a terminal sends reach it without us. Once the program has ended they do to us what they do
 * to any process.
 *
 * preload  library to put before LD_PRELOAD, or NULL
 * watch    or NULL
 *
 * Returns its exit status, 128 + n when signal n killed it, 126 or 127 when it could not be started (said on
 * stderr). */
int program_run(const char *path, char **argv, const char *preload, const struct program_watch *watch);

#endif
