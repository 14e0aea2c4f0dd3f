/* SPDX-License-Identifier: Apache-2.0 */
/* An error for a person: a code for the program and a sentence that says what was tried and what to check. */
#ifndef FG_BASE_ERROR_H
#define FG_BASE_ERROR_H

struct error {
	int code;		/* negative errno */
	char text[512];		/* one line, no newline, no trailing dot needed */
};

/* Fill *err (which may be NULL) and return code, so that `return error_set(err, -EINVAL, "...")` is the whole
 * path. A text longer than the buffer is cut. */
int error_set(struct error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
