/* SPDX-License-Identifier: Apache-2.0 */
/* What `fracgpu doctor` runs in a slice of its own: fill it, and see that it is refused at the right place.
 *
 * It talks to the driver as any program does, through libc's ioctl(), so that the door it was started behind
 * is tried as it is. One line on stdout for doctor: "ok ..." or "bad ...". */
#include "rm/rm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "abi/calls.h"
#include "base/bytes.h"
#include "base/size.h"
#include "cli/options.h"

enum {
	CLASS_MEMORY = 0x40,
	STEPS_MAX = 4096,
	MEMORY_ALIGN = 72, /* NV_MEMORY_ALLOCATION_PARAMS (sdk/nvidia/inc/nvos.h) */
};

#define STEP_BYTES (UINT64_C(4) << 20)

static const char *opt_limit;

static const struct option_row options[] = {
	{ "limit", "BYTES", "limit of the slice", &opt_limit },
	{ NULL },
};

/* As CUDA asks for device memory: flags and attributes of its calls (driver 580). */
static int take(struct rm *rm, uint32_t index, uint32_t *handle)
{
	char params[128] = { 0 };

	put_u32(params, MEMORY_OWNER, rm->client);
	put_u32(params, MEMORY_FLAGS, 0x1c101);
	put_u32(params, MEMORY_ATTR, 0x18000000);
	put_u64(params, MEMORY_BYTES, STEP_BYTES);
	put_u64(params, MEMORY_ALIGN, UINT64_C(2) << 20);
	*handle = 0;
	return rm_alloc(rm, rm->gpus[index].device_handle, handle, CLASS_MEMORY, params);
}

static int bad(const char *text, uint64_t value)
{
	printf("bad %s 0x%" PRIx64 "\n", text, value);
	return EXIT_FAILED;
}

static int fill(struct rm *rm, uint64_t limit)
{
	static const uint32_t figures[] = { FB_INFO_INDEX_TOTAL_RAM_SIZE, FB_INFO_INDEX_HEAP_FREE };
	uint64_t bytes[2], held = 0;
	uint32_t handle = 0, last = 0;
	char text[SIZE_TEXT];
	int r;

	r = rm_fb_info(rm, 0, 2, figures, bytes);
	if (r != NV_OK)
		return bad("the driver does not tell its memory, status", (uint64_t)r);
	if (bytes[0] != limit)
		return bad("the slice is shown another size than its limit:", bytes[0]);
	if (bytes[1] > limit)
		return bad("the slice is shown more free memory than its limit:", bytes[1]);
	for (int i = 0; i < STEPS_MAX; i++) {
		r = take(rm, 0, &handle);
		if (r != NV_OK)
			break;
		last = handle;
		held += STEP_BYTES;
	}
	if (r != NV_ERR_NO_MEMORY)
		return bad("filling the slice did not end in 'out of memory' but in status",
			   (uint64_t)(int64_t)r);
	if (held > limit)
		return bad("the slice got more than its limit:", held);
	if (held + STEP_BYTES <= limit)
		return bad("the slice was refused before it was full, at", held);
	if (!last || rm_free(rm, last) != NV_OK || take(rm, 0, &handle) != NV_OK)
		return bad("memory given back cannot be had again, at", held);
	printf("ok refused after %s of %" PRIu64 " MiB, and shown that size\n", size_format(text, held),
	       limit >> 20);
	return 0;
}

static int child(int count, char **words)
{
	struct error err;
	struct rm rm;
	int r;

	if (!opt_limit || rm_open(&rm, &err) < 0) {
		printf("bad the driver cannot be opened in the slice: %s\n",
		       opt_limit ? err.text : "no limit");
		return EXIT_FAILED;
	}
	r = fill(&rm, strtoull(opt_limit, NULL, 10));
	rm_close(&rm);
	return r;
}

const struct verb verb_doctor_child = {
	.name = "doctor-child",
	.synopsis = "--limit BYTES",
	.summary = "Fill a slice (what 'fracgpu doctor' runs)",
	.options = options,
	.run = child,
};
