/* SPDX-License-Identifier: Apache-2.0 */
/* Asserting for test programs that run under the simulator or a front door: both values are shown, the first failure
 * ends the program with 1. Exit status 77 skips. */
#ifndef FG_TEST_CHECK_H
#define FG_TEST_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK_EQUAL(got, want)                                                                                       \
	do {                                                                                                         \
		long long check_got = (long long)(got), check_want = (long long)(want);                             \
		if (check_got != check_want) {                                                                      \
			fprintf(stderr, "%s:%d: %s is %lld (0x%llx), not %lld (0x%llx)\n", __FILE__, __LINE__, #got, \
				check_got, (unsigned long long)check_got, check_want,                               \
				(unsigned long long)check_want);                                                    \
			exit(1);                                                                                    \
		}                                                                                                   \
	} while (0)

#define CHECK(condition)                                                                  \
	do {                                                                              \
		if (!(condition)) {                                                       \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			exit(1);                                                          \
		}                                                                         \
	} while (0)

#endif
