/* SPDX-License-Identifier: Apache-2.0 */
/* Reading options by a table, and showing the table. */
#include "cli/options.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { OPTIONS_MAX = 32, OPTION_HELP = OPTIONS_MAX };

int complain(const char *format, ...)
{
	va_list args;

	fputs("fracgpu: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_FAILED;
}

void options_help(const struct verb *verb)
{
	char left[64];

	printf("Usage: fracgpu %s%s%s\n\n%s.\n\nOptions:\n", verb->name, *verb->synopsis ? " " : "",
	       verb->synopsis, verb->summary);
	for (const struct option_row *row = verb->options; row->name; row++) {
		snprintf(left, sizeof(left), "--%s%s%s", row->name, row->argument ? " " : "",
			 row->argument ? row->argument : "");
		printf("  %-28s %s\n", left, row->help);
	}
	printf("  %-28s %s\n", "--help", "show this");
}

static int wrong(const struct verb *verb, const char *what, const char *which)
{
	complain("%s: %s '%s' (see 'fracgpu %s --help')", verb->name, what, which, verb->name);
	return EXIT_USAGE;
}

int options_parse(const struct verb *verb, int argc, char **argv, int *ret_status)
{
	struct option longs[OPTIONS_MAX + 2] = { 0 };
	int count = 0;
	int found;

	for (; count < OPTIONS_MAX && verb->options[count].name; count++) {
		longs[count].name = verb->options[count].name;
		longs[count].has_arg = verb->options[count].argument ? required_argument : no_argument;
		longs[count].val = 256 + count;
	}
	longs[count].name = "help";
	longs[count].val = 256 + OPTION_HELP;

	opterr = 0;
	optind = 1;
	while ((found = getopt_long(argc, argv, verb->is_mixed ? ":h" : "+:h", longs, NULL)) != -1) {
		const char *last = argv[optind - 1];

		if (found == 'h' || found == 256 + OPTION_HELP) {
			options_help(verb);
			*ret_status = 0;
			return 0;
		}
		if (found == ':') {
			*ret_status = wrong(verb, "a value is missing after", last);
			return 0;
		}
		if (found == '?') {
			*ret_status =
				wrong(verb, optopt >= 256 ? "no value belongs to" : "unknown option", last);
			return 0;
		}
		*verb->options[found - 256].value = optarg ? optarg : "";
	}
	if (!verb->takes_words && optind < argc) {
		*ret_status = wrong(verb, "this does not belong here:", argv[optind]);
		return 0;
	}
	return optind;
}
