/* SPDX-License-Identifier: Apache-2.0 */
/* What both sets of names are written with. */
#ifndef FG_DAEMON_PROMETHEUS_TEXT_H
#define FG_DAEMON_PROMETHEUS_TEXT_H

#include <stdio.h>

#include "daemon/figures.h"

enum text_unit { TEXT_NUMBER, TEXT_NS, TEXT_PERMILLE, TEXT_PERCENT };

/* What is to be shown, and as what: ns as seconds, permille as a ratio or as per cent. */
struct text_value {
	uint64_t value;
	enum text_unit unit;
};

/* "# HELP" and "# TYPE". */
void text_family(FILE *to, const char *name, const char *type, const char *help);

/* A label that is not empty; *count of those written so far. */
void text_label(FILE *to, int *count, const char *name, const char *value);

/* The end of a sample's line, after its name and count labels. */
void text_end(FILE *to, int count, struct text_value value);

/* HAMi's names (prometheus_hami.c). */
void hami_write(FILE *to, const struct figures *f, const char *node, bool is_legacy);

#endif
