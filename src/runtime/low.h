/* SPDX-License-Identifier: Apache-2.0 */
/* The OCI runtime below fracgpu-runtime, and what it can do. */
#ifndef FG_RUNTIME_LOW_H
#define FG_RUNTIME_LOW_H

#include <limits.h>
#include <stdbool.h>

/* The first of runc and crun that is installed, and the path of a runtime by its name. NULL when it is
 * nowhere. Writes to ret_path, which has PATH_MAX bytes. */
const char *low_find(char ret_path[PATH_MAX]);
const char *low_find_named(const char *name, char ret_path[PATH_MAX]);

/* Whether a runtime takes the wait-killable flag in a profile: crun from 1.6, runc from 1.5 do. Others refuse
 * the whole profile for it. Runs it with --version. */
bool low_knows_flag(const char *path);

/* The same of the line that --version prints first. */
bool low_line_knows_flag(const char *line);

#endif
