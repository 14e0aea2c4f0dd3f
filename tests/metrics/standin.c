/* SPDX-License-Identifier: Apache-2.0 */
/* A slice whose figures the test sets: a real directory and ledger with nobody in it. For what the simulator cannot do
 * (measured GPU time), and for numbers that are known beforehand.
 *
 * usage: standin NAME, on the simulator. Each line of its input is "FIELD GPU VALUE"; the answer is "ok". Ends with its
 * input. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/runtime.h"
#include "ledger/ledger.h"
#include "lib/check.h"
#include "rm/rm.h"

static struct ledger_handle handle;
static struct slice_dir dir;

static void open_slice(const char *name)
{
	struct ledger_gpu gpus[ACCOUNT_GPUS];
	uint64_t limits[ACCOUNT_GPUS];
	char runtime[RUNTIME_PATH], path[sizeof(dir.path) + 16];
	struct error err = { 0 };
	struct rm rm;
	struct ledger_settings settings = { .name = name, .door = "container", .gpus = gpus, .limits = limits };

	CHECK_EQUAL(rm_open(&rm, &err), 0);
	for (uint32_t i = 0; i < rm.gpu_count; i++) {
		gpus[i] = rm.gpus[i].gpu;
		limits[i] = gpus[i].total_bytes;
	}
	settings.gpu_count = rm.gpu_count;
	settings.driver = rm.layout_text;
	CHECK_EQUAL(runtime_path(runtime, &err), 0);
	CHECK_EQUAL(slice_dir_make(&dir, runtime, name, &err), 0);
	snprintf(path, sizeof(path), "%s/ledger", dir.path);
	CHECK_EQUAL(ledger_create(&handle, path, &settings, &err), 0);
	rm_close(&rm);
	slice_dir_ready(&dir);
}

static void set(const char *field, uint32_t gpu, uint64_t value)
{
	struct ledger *l = handle.ledger;

	CHECK(gpu < ACCOUNT_GPUS);
	if (!strcmp(field, "limit"))
		l->account.limit_bytes[gpu] = value;
	else if (!strcmp(field, "used"))
		l->account.used_bytes[gpu] = value;
	else if (!strcmp(field, "peak"))
		l->account.peak_bytes[gpu] = value;
	else if (!strcmp(field, "refusals"))
		l->account.refusals[gpu] = value;
	else if (!strcmp(field, "busy"))
		l->compute[gpu].busy_ns = value, l->compute[gpu].source = 1;
	else if (!strcmp(field, "throttled"))
		l->compute[gpu].throttled_ns = value;
	else if (!strcmp(field, "switches"))
		l->compute[gpu].switches = value;
	else if (!strcmp(field, "processes"))
		for (uint64_t i = 0; i < LEDGER_SLOTS; i++)
			l->slots[i].state = i < value ? SLOT_LIVE : SLOT_FREE;
	else if (!strcmp(field, "cap"))
		l->compute_max_permille = (uint32_t)value;
	else if (!strcmp(field, "paused"))
		l->frozen = (uint32_t)value;
	else if (!strcmp(field, "breached"))
		l->breached = (uint32_t)value;
	else
		CHECK(!"a known field");
}

int main(int argc, char **argv)
{
	char field[32];
	uint32_t gpu;
	uint64_t value;

	CHECK_EQUAL(argc, 2);
	open_slice(argv[1]);
	puts("ok");
	fflush(stdout);
	while (scanf("%31s %" SCNu32 " %" SCNu64, field, &gpu, &value) == 3) {
		set(field, gpu, value);
		puts("ok");
		fflush(stdout);
	}
	ledger_close(&handle);
	slice_dir_done(&dir);
	return 0;
}
