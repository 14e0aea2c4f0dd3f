/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpu VERB [OPTIONS]: finds the verb and runs it. */
#include <stdio.h>
#include <string.h>

#include "cli/options.h"

static const struct verb *const verbs[] = {
	&verb_run, &verb_ps, &verb_set, &verb_pause, &verb_resume, &verb_stat, &verb_top, &verb_create, &verb_rm,
	&verb_seccomp_profile, &verb_cdi, &verb_doctor, &verb_version, &verb_help,
};

/* Not for people: what `doctor` runs in a slice of its own, and what engines run. */
static const struct verb *const hidden[] = { &verb_doctor_child, &verb_cdi_hook };

static const struct option_row no_options[] = { { NULL } };

static const struct verb *find(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verbs[i]->name, name) == 0)
			return verbs[i];
	}
	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
		if (strcmp(hidden[i]->name, name) == 0)
			return hidden[i];
	}
	return NULL;
}

static void overview(void)
{
	puts("Usage: fracgpu VERB [OPTIONS]\n\nShare NVIDIA GPUs between programs, with hard memory "
	     "limits.\n\nVerbs:");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		printf("  %-15s %s\n", verbs[i]->name, verbs[i]->summary);
	puts("\n'fracgpu help VERB' says more.");
}

static int show_help(int count, char **words)
{
	const struct verb *verb;

	if (!count) {
		overview();
		return 0;
	}
	verb = find(words[0]);
	if (!verb) {
		complain("help: there is no verb '%s' (see 'fracgpu help')", words[0]);
		return EXIT_USAGE;
	}
	options_help(verb);
	return 0;
}

static int show_version(int count, char **words)
{
	puts("fracgpu " FRACGPU_VERSION);
	return 0;
}

const struct verb verb_help = {
	.name = "help",
	.synopsis = "[VERB]",
	.summary = "Show what fracgpu, or one of its verbs, does",
	.options = no_options,
	.takes_words = true,
	.run = show_help,
};

const struct verb verb_version = {
	.name = "version",
	.synopsis = "",
	.summary = "Show the version of fracgpu",
	.options = no_options,
	.run = show_version,
};

int main(int argc, char **argv)
{
	const struct verb *verb;
	int first, status;

	if (argc < 2) {
		complain("what to do? (see 'fracgpu help')");
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		argv[1] = (char *)"help";
	if (strcmp(argv[1], "--version") == 0)
		argv[1] = (char *)"version";
	verb = find(argv[1]);
	if (!verb) {
		complain("there is no verb '%s' (see 'fracgpu help')", argv[1]);
		return EXIT_USAGE;
	}
	first = options_parse(verb, argc - 1, argv + 1, &status);
	if (!first)
		return status;
	status = verb->run(argc - 1 - first, argv + 1 + first);
	if (fflush(stdout) != 0 || ferror(stdout))
		return complain("cannot write the result");
	return status;
}
