/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and shares as people write them: the one parser and the one printer. */
#ifndef FG_BASE_SIZE_H
#define FG_BASE_SIZE_H

#include <stddef.h>
#include <stdint.h>

enum { SIZE_TEXT = 32 };	/* bytes that size_format() needs at the most */

/* Read "8GiB", "8G", "512MiB", "1.5GiB", "8589934592" (units KMGT and KiB..TiB are powers of 1024; KB..TB powers
 * of 1000; no unit means bytes). The whole string must be the size.
 *
 * Returns 0, -EINVAL when it is no size, -ERANGE when it does not fit. *ret_bytes is untouched on failure. */
int size_parse(const char *text, uint64_t *ret_bytes);

/* Read "50%" or "12.5%" into permille. Returns 0, -EINVAL, or -ERANGE for 0 or more than 100 per cent. */
int percent_parse(const char *text, uint32_t *ret_permille);

/* Write "8 GiB", "512 MiB", "1.5 GiB" (at most one decimal) into text, which has SIZE_TEXT bytes. Returns text. */
char *size_format(char text[SIZE_TEXT], uint64_t bytes);

#endif
