/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpu stat: all about one slice. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "cli/compute.h"
#include "cli/control.h"
#include "cli/options.h"
#include "cli/slice.h"
#include "meter/reader.h"

static const char *opt_json;

static const struct option_row options[] = {
	{ "json", NULL, "print JSON, sizes in bytes, times in ns", &opt_json },
	{ NULL },
};

/* What a figure of GPU time rests on. */
static const char *source_name(uint32_t source)
{
	switch (source) {
	case METER_RECORDS:
		return "records";
	case METER_RECORDS_OWN:
		return "own records";
	case METER_SAMPLES:
		return "samples";
	default:
		return NULL;
	}
}

static json_t *gpu_json(const struct ledger *l, uint32_t gpu)
{
	const struct ledger_compute *compute = &l->compute[gpu];
	const char *source = source_name(compute->source);

	return json_pack("{s:I,s:s,s:{s:I,s:I,s:I,s:I},s:{s:o,s:s?,s:I,s:I,s:I}}", "index", (json_int_t)l->gpus[gpu].index,
			 "uuid", l->gpus[gpu].uuid, "memory", "limit_bytes",
			 (json_int_t)l->account.limit_bytes[gpu], "used_bytes", (json_int_t)l->account.used_bytes[gpu],
			 "peak_bytes", (json_int_t)l->account.peak_bytes[gpu], "refusals",
			 (json_int_t)l->account.refusals[gpu], "compute", "busy_ns",
			 source ? json_integer((json_int_t)compute->busy_ns) : json_null(), "source", source,
			 "throttled_ns", (json_int_t)compute->throttled_ns, "switches",
			 (json_int_t)compute->switches, "channels", (json_int_t)compute->channels);
}

static void print_json(const struct slice *slice, bool is_driven)
{
	const struct ledger *l = slice->ledger;
	json_t *gpus = json_array(), *all;

	for (uint32_t i = 0; i < slice_gpu_count(slice); i++) {
		if (l->account.limit_bytes[i])
			json_array_append_new(gpus, gpu_json(l, i));
	}
	all = json_pack("{s:s,s:s,s:{s:o,s:I,s:s,s:b,s:b},s:o,s:o}", "name", l->name, "door", l->door, "compute",
			"max_permille", l->compute_max_permille ? json_integer(l->compute_max_permille) : json_null(),
			"weight", (json_int_t)l->compute_weight, "priority",
			compute_priority_name(l->compute_priority), "paused", (int)(l->frozen != 0), "driven",
			(int)is_driven, "gpus", gpus, "processes", slice_processes_json(slice));
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

static void print_gpu(const struct ledger *l, uint32_t gpu)
{
	const struct ledger_compute *compute = &l->compute[gpu];
	char used[SIZE_TEXT], limit[SIZE_TEXT], peak[SIZE_TEXT];

	printf("GPU %" PRIu32 "\n  memory     %s of %s, at most %s; refused %" PRIu64 " times\n", l->gpus[gpu].index,
	       size_format(used, l->account.used_bytes[gpu]), size_format(limit, l->account.limit_bytes[gpu]),
	       size_format(peak, l->account.peak_bytes[gpu]), l->account.refusals[gpu]);
	if (source_name(compute->source))
		printf("  GPU time   %.3f s (by %s)\n", (double)compute->busy_ns / 1e9, source_name(compute->source));
	else
		printf("  GPU time   not measured\n");
	printf("  throttled  %.3f s\n", (double)compute->throttled_ns / 1e9);
}

static void print_text(const struct slice *slice, bool is_driven)
{
	const struct ledger *l = slice->ledger;

	printf("%s, %s door%s%s\n", l->name, l->door, l->frozen ? ", paused" : "",
	       is_driven ? "" : ", driven by nobody: no cap or pause has an effect");
	if (l->compute_max_permille)
		printf("cap        %.1f %%\n", (double)l->compute_max_permille / 10);
	else
		printf("cap        none\n");
	if (l->compute_weight)
		printf("weight     %" PRIu32 "\n", l->compute_weight);
	if (l->compute_priority)
		printf("priority   %s\n", compute_priority_name(l->compute_priority));
	for (uint32_t i = 0; i < slice_gpu_count(slice); i++) {
		if (l->account.limit_bytes[i])
			print_gpu(l, i);
	}
	printf("processes ");
	for (uint32_t i = 0; i < LEDGER_SLOTS; i++) {
		if (slice->pids[i])
			printf(" %" PRId32, slice->pids[i]);
	}
	putchar('\n');
}

static int stat_slice(int count, char **words)
{
	static struct slice slice;
	char path[SLICE_PATH];
	struct error err;
	json_t *answer;
	bool is_driven;
	int r;

	if (count != 1) {
		complain("stat: which slice? (see 'fracgpu stat --help')");
		return EXIT_USAGE;
	}
	if (slice_find(words[0], path, &err) < 0)
		return complain("slice '%s': %s", words[0], err.text);
	/* what is not told to us may be a little old, no more */
	is_driven = control_ask(path, json_pack("{s:b}", "publish", 1), &answer, &err) == 0;
	if (is_driven)
		json_decref(answer);
	else
		is_driven = err.code != -ECONNREFUSED;
	r = slice_read(&slice, path);
	if (r < 0)
		return slice_complain(words[0], r);
	if (opt_json)
		print_json(&slice, is_driven);
	else
		print_text(&slice, is_driven);
	slice_done(&slice);
	return 0;
}

const struct verb verb_stat = {
	.name = "stat",
	.synopsis = "NAME [OPTIONS]",
	.summary = "Show all about one slice",
	.options = options,
	.takes_words = true,
	.is_mixed = true,
	.run = stat_slice,
};
