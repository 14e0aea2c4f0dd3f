/* SPDX-License-Identifier: Apache-2.0 */
/* Takes memory on every GPU it can see, says so, and holds it until its standard input ends. usage: hold MIB
 */
#include "rm/rm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "abi/calls.h"
#include "base/bytes.h"

enum { CLASS_MEMORY = 0x40, MEMORY_ALIGN = 72 };

static int take(struct rm *rm, uint32_t index, uint64_t bytes)
{
	char params[128] = { 0 };
	uint32_t handle = 0;

	put_u32(params, MEMORY_OWNER, rm->client);
	put_u32(params, MEMORY_FLAGS, 0x1c101);
	put_u32(params, MEMORY_ATTR, 0x18000000);
	put_u64(params, MEMORY_BYTES, bytes);
	put_u64(params, MEMORY_ALIGN, UINT64_C(2) << 20);
	return rm_alloc(rm, rm->gpus[index].device_handle, &handle, CLASS_MEMORY, params);
}

int main(int argc, char **argv)
{
	uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
	struct error err;
	struct rm rm;
	char c;

	if (rm_open(&rm, &err) < 0) {
		fprintf(stderr, "hold: %s\n", err.text);
		return 1;
	}
	for (uint32_t i = 0; i < rm.gpu_count; i++)
		printf("gpu %" PRIu32 " total %" PRIu64 " status %d\n", rm.gpus[i].gpu.minor,
		       rm.gpus[i].gpu.total_bytes >> 20, take(&rm, i, mib << 20));
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	rm_close(&rm);
	return 0;
}
