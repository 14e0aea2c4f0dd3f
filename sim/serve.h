/* SPDX-License-Identifier: Apache-2.0 */
/* The device files, through FUSE. */
#ifndef FG_SIM_SERVE_H
#define FG_SIM_SERVE_H

#include "base/error.h"
#include "sim/rm.h"

/* Serve at a mount point, or at "/dev/fd/N" where N is a mounted /dev/fuse, until end_fd can be read or its other end
 * is closed, or until the file system is unmounted.
 *
 * on_ready  called once, when the files can be reached
 *
 * Returns 0 or negative errno with a sentence in err. */
int serve(struct sim *sim, const char *mount_point, int end_fd, void (*on_ready)(void), struct error *err);

/* Names of the files served, by number: NULL past the last. */
const char *serve_name(const struct sim *sim, unsigned int index, char buffer[32]);

#endif
