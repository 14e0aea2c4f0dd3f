/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpu set, pause, resume: change a slice that runs. */
#include <stdio.h>
#include <string.h>

#include "cli/compute.h"
#include "cli/control.h"
#include "cli/options.h"
#include "cli/slice.h"

static const char *opt_memory, *opt_compute, *opt_weight, *opt_priority;

static const struct option_row set_options[] = {
	{ "memory", "LIMIT", "8GiB, 50%, or 0=8GiB,1=50%: of the GPUs that the slice has", &opt_memory },
	{ "compute", "SHARE", "at most this share of each GPU's time: 50%, or none", &opt_compute },
	{ "weight", "NUMBER", "1 to 10000, between slices of one fracgpud; else stored, without effect",
	  &opt_weight },
	{ "priority", "PRIORITY", "realtime, normal or idle, between slices of one fracgpud; else likewise",
	  &opt_priority },
	{ NULL },
};

static const struct option_row no_options[] = { { NULL } };

/* Ask, and tell what the answer says. Returns the exit status. */
static int ask(const char *name, json_t *request)
{
	char path[SLICE_PATH];
	json_t *answer, *note;
	struct error err;
	size_t i;

	if (slice_find(name, path, &err) < 0 || control_ask(path, request, &answer, &err) < 0)
		return complain("slice '%s': %s", name, err.text);
	json_array_foreach(json_object_get(answer, "notes"), i, note)
		complain("note: slice '%s': %s", name, json_string_value(note));
	json_decref(answer);
	return 0;
}

static int one_name(const char *verb, int count)
{
	if (count == 1)
		return 0;
	complain("%s: which slice? (see 'fracgpu %s --help')", verb, verb);
	return EXIT_USAGE;
}

/* What cannot be right whatever the slice is, is a mistake in the command. */
static int check(void)
{
	const char *option = NULL;
	struct error err;
	uint32_t number;

	if (opt_compute && compute_cap_parse(opt_compute, &number, &err) < 0)
		option = "compute";
	else if (opt_weight && compute_weight_parse(opt_weight, &number, &err) < 0)
		option = "weight";
	else if (opt_priority && compute_priority_parse(opt_priority, &number, &err) < 0)
		option = "priority";
	if (option) {
		complain("set: --%s: %s", option, err.text);
		return EXIT_USAGE;
	}
	if (!opt_memory && !opt_compute && !opt_weight && !opt_priority) {
		complain("set: to what? (see 'fracgpu set --help')");
		return EXIT_USAGE;
	}
	return 0;
}

static int set(int count, char **words)
{
	int r = one_name("set", count);

	if (r == 0)
		r = check();
	if (r)
		return r;
	return ask(words[0], json_pack("{s:s*,s:s*,s:s*,s:s*}", "memory", opt_memory, "compute", opt_compute, "weight",
				       opt_weight, "priority", opt_priority));
}

static int pause_slice(int count, char **words)
{
	int r = one_name("pause", count);

	return r ? r : ask(words[0], json_pack("{s:b}", "paused", 1));
}

static int resume(int count, char **words)
{
	int r = one_name("resume", count);

	return r ? r : ask(words[0], json_pack("{s:b}", "paused", 0));
}

const struct verb verb_set = {
	.name = "set",
	.synopsis = "NAME [OPTIONS]",
	.summary = "Change the limits of a slice that runs",
	.options = set_options,
	.takes_words = true,
	.is_mixed = true,
	.run = set,
};

const struct verb verb_pause = {
	.name = "pause",
	.synopsis = "NAME",
	.summary = "Keep a slice off the GPU until it is resumed",
	.options = no_options,
	.takes_words = true,
	.is_mixed = true,
	.run = pause_slice,
};

const struct verb verb_resume = {
	.name = "resume",
	.synopsis = "NAME",
	.summary = "Let a paused slice go on",
	.options = no_options,
	.takes_words = true,
	.is_mixed = true,
	.run = resume,
};
