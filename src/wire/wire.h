/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs of a host say to fracgpud: where it listens, and the words of a hand-off's metadata. */
#ifndef FG_WIRE_WIRE_H
#define FG_WIRE_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#define WIRE_SOCKET "/run/fracgpud/agent.sock"
#define WIRE_CONFIG "/etc/fracgpu/fracgpud.conf"

enum { WIRE_LIMIT = 256, WIRE_SHARE = 16, WIRE_NAME = 64, WIRE_METADATA = WIRE_LIMIT + WIRE_SHARE + WIRE_NAME + 64 };

/* What a slice may have. Texts without blanks; "": not said. */
struct wire_terms {
	char limit[WIRE_LIMIT];		/* as limit_parse() reads it */
	char compute[WIRE_SHARE];	/* a cap: "50%" or "none" */
	char slice[WIRE_NAME];		/* to be in this slice, which has terms of its own */
};

/* The metadata of a seccomp listener, words in one string:
 *   "fracgpu memory=8GiB compute=50%"        whoever wrote the profile gives this
 *   "fracgpu asks memory=8GiB compute=50%"   the container asks for it (its environment)
 *   "fracgpu slice=NAME"                     to be in that slice
 *   "fracgpu"                                nothing of this */
struct wire_metadata {
	bool is_given;		/* no "asks" */
	struct wire_terms terms;
};

/* ret_text has WIRE_METADATA bytes. Returns 0, or -EINVAL when something is too long or has a blank. */
int wire_metadata_pack(const struct wire_metadata *metadata, char *ret_text);

/* Returns 0, or -EINVAL when the text is no metadata of ours. is_given is false when nothing is said. */
int wire_metadata_unpack(const char *text, struct wire_metadata *ret_metadata);

/* What a container's environment asks for, by the names that people know:
 *   FRACGPU_MEMORY            as limit_parse() has it
 *   FRACGPU_MEMORY_0 ...      the same of one GPU
 *   NVIDIA_GPU_MEMORY_LIMIT   MiB
 *   CUDA_DEVICE_MEMORY_LIMIT_0 ..., CUDA_DEVICE_MEMORY_LIMIT   "8192m", "8g", "8388608k", or bytes (HAMi)
 *   GPU_MEM_LIMIT_GB          GiB, may have decimals
 *   NVIDIA_GPU_MEMORY_REQUEST MiB
 * The first of them that is there counts. Likewise FRACGPU_COMPUTE ("25%", "25", "none") before CUDA_DEVICE_SM_LIMIT (per
 * cent; 0: no cap). And FRACGPU_SLICE.
 *
 * name, value  one variable; called for each
 * ask          starts zeroed */
struct wire_ask {
	uint32_t memory_rank, compute_rank;	/* of what is in terms; 0: nothing */
	struct wire_terms terms;
};

/* Whether anything is asked for. */
bool wire_has_terms(const struct wire_terms *terms);

/* Returns 0, or -EINVAL when it is one of these names with a value that cannot be read. */
int wire_ask_variable(struct wire_ask *ask, const char *name, const char *value);

#endif
