/* SPDX-License-Identifier: Apache-2.0 */
/* Results that are files for other programs. */
#ifndef FG_CLI_OUTPUT_H
#define FG_CLI_OUTPUT_H

#include <jansson.h>

#include "base/error.h"

/* Write JSON to a file, all of it or nothing: a new file takes the old one's place. path NULL: standard
 * output. Returns 0 or negative errno with a sentence in err. */
int output_json(const json_t *value, const char *path, struct error *err);

#endif
