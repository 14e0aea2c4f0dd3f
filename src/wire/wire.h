/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs of a host say to fracgpud: where it listens, and the words of a hand-off's metadata. */
#ifndef FG_WIRE_WIRE_H
#define FG_WIRE_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#define WIRE_SOCKET "/run/fracgpud/agent.sock"
#define WIRE_CONFIG "/etc/fracgpu/fracgpud.conf"

enum { WIRE_LIMIT = 256, WIRE_METADATA = WIRE_LIMIT + 32 };

/* The metadata of a seccomp listener, one string:
 *   "fracgpu memory=LIMIT"  whoever wrote the profile gives this limit
 *   "fracgpu asks=LIMIT"    the container asks for it (its environment)
 *   "fracgpu"               neither
 * LIMIT as in limit_parse(), without blanks. */
struct wire_metadata {
	bool is_given;		/* "memory", not "asks" */
	char limit[WIRE_LIMIT];	/* "": neither */
};

/* ret_text has WIRE_METADATA bytes. Returns 0, or -EINVAL when the limit is too long or has a blank. */
int wire_metadata_pack(const struct wire_metadata *metadata, char *ret_text);

/* Returns 0, or -EINVAL when the text is no metadata of ours. */
int wire_metadata_unpack(const char *text, struct wire_metadata *ret_metadata);

/* The limit that a container's environment asks for, by the names that people know:
 *   FRACGPU_MEMORY            as limit_parse() has it
 *   NVIDIA_GPU_MEMORY_LIMIT   MiB
 *   CUDA_DEVICE_MEMORY_LIMIT, CUDA_DEVICE_MEMORY_LIMIT_0 ...   "8192m", "8g", "8388608k", or bytes (HAMi)
 *   GPU_MEM_LIMIT_GB          GiB, may have decimals
 * The first of them that is there counts.
 *
 * name, value  one variable; called for each
 * ask          starts zeroed */
struct wire_ask {
	uint32_t rank;		/* of what is in limit; 0: nothing */
	char limit[WIRE_LIMIT];
};

/* Returns 0, or -EINVAL when it is one of these names with a value that cannot be read. */
int wire_ask_variable(struct wire_ask *ask, const char *name, const char *value);

#endif
