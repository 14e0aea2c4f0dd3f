/* SPDX-License-Identifier: Apache-2.0 */
/* Memory limits as people write them, against the GPUs that exist. */
#ifndef FG_POLICY_LIMIT_H
#define FG_POLICY_LIMIT_H

#include <stdint.h>

#include "base/error.h"

struct limit_gpu {
	uint32_t index;		/* as nvidia-smi numbers them */
	char uuid[48];		/* "GPU-..." */
	uint64_t total_bytes;
};

/* Read "8GiB", "50%", "0=8GiB,1=4GiB,GPU-uuid=50%" (a unique prefix of a UUID of at least 8 characters will do).
 * A bare value holds for every GPU; with a list, GPUs not named are not the slice's (limit 0).
 *
 * gpus        count entries
 * ret_limits  count entries, bytes; untouched on failure
 *
 * Returns 0, -EINVAL (unreadable, zero, named twice), -ENODEV (no such GPU), -ERANGE (over the card);
 * err says which part and what exists. */
int limit_parse(const char *text, const struct limit_gpu *gpus, uint32_t count, uint64_t *ret_limits,
		struct error *err);

/* Whether it is a limit, for GPUs that are not known here. Returns 0 or -EINVAL, as above. */
int limit_check(const char *text, struct error *err);

#endif
