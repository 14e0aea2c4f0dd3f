/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs and their options: one table makes the parser, --help, and what the man pages are checked against. */
#ifndef FG_CLI_OPTIONS_H
#define FG_CLI_OPTIONS_H

#include <stdbool.h>

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct option_row {
	const char *name; /* without the dashes */
	const char *argument; /* what to call its value, NULL for a switch */
	const char *help; /* one line */
	const char **value; /* set to the value given (a switch: to ""); untouched when it is not given */
};

struct verb {
	const char *name;
	const char *synopsis; /* what follows the verb */
	const char *summary; /* one line */
	const struct option_row *options; /* ends with a row without a name */
	bool takes_words; /* words may follow the options; the first ends them */
	bool is_mixed; /* it does not: options may follow words */
	int (*run)(int count, char **words); /* the words after the options; returns the exit status */
};

extern const struct verb verb_run, verb_ps, verb_doctor, verb_version, verb_help, verb_doctor_child;
extern const struct verb verb_set, verb_pause, verb_resume, verb_stat, verb_top, verb_seccomp_profile;
extern const struct verb verb_create, verb_rm, verb_cdi, verb_cdi_hook;

/* Read argv (argv[0] is the verb's name) by the verb's table. Says what is wrong on stderr.
 *
 * Returns the index of the first word after the options, or 0 when the verb is done: *ret_status is then the
 * exit status (after --help, or after a mistake). */
int options_parse(const struct verb *verb, int argc, char **argv, int *ret_status);

/* What --help shows, on stdout. */
void options_help(const struct verb *verb);

/* One line on stderr: "fracgpu: ...". Returns EXIT_FAILED. */
int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
