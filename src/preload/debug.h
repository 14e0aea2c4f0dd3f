/* SPDX-License-Identifier: Apache-2.0 */
/* Whole lines for the file that FRACGPU_DEBUG names, and for nothing else. */
#ifndef FG_PRELOAD_DEBUG_H
#define FG_PRELOAD_DEBUG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct debug_line {
	size_t used;
	char text[480];
};

/* At load: read FRACGPU_DEBUG, "FILE" (refusals) or "calls:FILE" (every call that was judged). */
void debug_init(void);

/* Whether lines are wanted: of refusals; of every call. */
bool debug_is_on(void);
bool debug_has_calls(void);

/* Build a line; what does not fit is cut. */
void debug_text(struct debug_line *line, const char *text);
void debug_number(struct debug_line *line, int64_t number);
void debug_hex(struct debug_line *line, uint64_t number);

/* Append the line to the file, with the pid in front. Opens and closes it: no descriptor is kept. Failure is
 * ignored. */
void debug_write(const struct debug_line *line);

#endif
