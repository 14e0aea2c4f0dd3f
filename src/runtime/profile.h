/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a seccomp section of an OCI configuration, or a profile of Docker or Podman, ask fracgpud about the calls that
 * may be the driver's.
 *
 * The calls are those of src/supervisor/filter.h and some more, since these rules know no ranges: every ioctl whose
 * request has a size, those without one below 0x1000, and mmap with MAP_SHARED and without MAP_ANONYMOUS. A rule that
 * allows a call without conditions hides one that asks (libseccomp keeps the former): it is replaced by rules that
 * allow exactly the rest, where that rule held (Docker's includes and excludes). What a profile refuses stays refused. */
#ifndef FG_RUNTIME_PROFILE_H
#define FG_RUNTIME_PROFILE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

struct profile_options {
	const char *socket;	/* of fracgpud */
	const char *metadata;	/* wire_metadata_pack() */
	bool wait_killable;	/* the runtime that will read it knows the flag (crun 1.6, runc 1.5) */
};

/* Change a section in place. Returns 0; -EALREADY when it asks at this socket; -EBUSY when it has a listener of somebody
 * else; -ENOTSUP when it allows ioctl or mmap for some arguments only; -EINVAL when it is no such section; -ENOMEM. On
 * failure the section is neither the old nor a new one. */
int profile_harden(json_t *section, const struct profile_options *options, struct error *err);

/* A section that allows everything else: for containers without one. NULL without memory. */
json_t *profile_new(void);

#endif
