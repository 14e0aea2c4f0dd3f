/* SPDX-License-Identifier: Apache-2.0 */
/* Where the slices of this user live: one directory a slice, below one runtime directory.
 *
 * RUNTIME/.lock        held (flock) while slices are made and cleaned away
 * RUNTIME/NAME/owner   locked (OFD) by the `fracgpu run` that made the slice
 * RUNTIME/NAME/ledger  what the slice holds
 * RUNTIME/NAME/libfracgpu*.so  the preload door's copy; it finds the ledger beside itself
 *
 * A slice is alive while its owner or a slot of its ledger is, or a process has its library mapped. */
#ifndef FG_CLI_RUNTIME_H
#define FG_CLI_RUNTIME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { RUNTIME_PATH = 192, SLICE_NAME = 64 };

struct slice_dir {
	char runtime[RUNTIME_PATH];
	char path[RUNTIME_PATH + SLICE_NAME + 1];
	char name[SLICE_NAME];
	int owner; /* the locked file; -1 */
	int guard; /* the lock of the runtime directory, until the slice is ready; -1 */
};

/* /run/fracgpu for root, $XDG_RUNTIME_DIR/fracgpu for others; /tmp/fracgpu-UID where that is not there, or is
 * mounted noexec (the preload door's library must be mapped from it). Makes it (0700) and checks that it is
 * ours alone. Returns 0 or negative errno. */
int runtime_path(char ret_path[RUNTIME_PATH], struct error *err);

/* Whether libraries can be loaded from a directory. */
bool runtime_allows_exec(const char *path);

/* Letters, digits, ".", "_" and "-", 1 to 63 of them, not starting with ".". */
bool slice_name_is_valid(const char *name);

/* "python3-4711" for a program's path: what is no letter of a name becomes "_". */
void slice_name_make(const char *program, int pid, char ret_name[SLICE_NAME]);

/* Clean dead slices away, and make the directory of a new one, with its owner file locked by us. Until
 * slice_dir_ready() nobody else sees or makes slices: its ledger is being made. Returns 0, -EEXIST when a
 * slice of this name is alive, or negative errno. */
int slice_dir_make(struct slice_dir *dir, const char *runtime, const char *name, struct error *err);
void slice_dir_ready(struct slice_dir *dir);

/* Let go of the owner file and remove the directory, unless a process of the slice is left that somebody else
 * waits for. */
void slice_dir_done(struct slice_dir *dir);

/* Whether the slice in a directory is alive. */
bool slice_is_alive(const char *path);

/* The same, but for processes that have its library mapped and never used a GPU: they hold nothing, and finding them means
 * looking at every process. For those who look often. */
bool slice_is_held(const char *path);

/* Take the lock of the runtime directory; shared: to look only. Returns a descriptor that holds it until it
 * is closed, or negative errno. */
int runtime_lock(const char *runtime, bool is_shared);

/* Call fn with path and name of each slice directory, in order of names, until it returns non-zero; returns
 * that. */
int slices_each(const char *runtime, int (*fn)(const char *path, const char *name, void *arg), void *arg);

/* Find a build of the preload library (a name from program.h) in the build tree or the installation that this
 * executable is of; $FRACGPU_LIBDIR instead for users who are not root. Returns 0 or -ENOENT. */
int library_find(const char *name, char *ret_path, unsigned int size, struct error *err);

/* Copy the library into a slice's directory; ret_path: where. Returns 0, -EACCES when nothing can be loaded
 * from there, or negative errno. */
int library_copy(const struct slice_dir *dir, const char *name, char *ret_path, unsigned int size,
		 struct error *err);

#endif
