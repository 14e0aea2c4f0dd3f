/* SPDX-License-Identifier: Apache-2.0 */
/* base/size.c: sizes and shares as people write them. */
#include "base/size.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define GIB (UINT64_C(1) << 30)
#define KEEP UINT64_C(12345)	/* what an output holds before */

static void test_size_parse(void **state)
{
	static const struct {
		const char *text;
		int result;
		uint64_t bytes;
	} cases[] = {
		{ "0", 0, 0 },
		{ "8589934592", 0, 8 * GIB },
		{ "8GiB", 0, 8 * GIB },
		{ "8G", 0, 8 * GIB },
		{ "8 GiB", 0, 8 * GIB },
		{ "8gib", 0, 8 * GIB },
		{ "1.5GiB", 0, GIB + GIB / 2 },
		{ "0.5K", 0, 512 },
		{ "512MiB", 0, 512 << 20 },
		{ "3KiB", 0, 3072 },
		{ "2TiB", 0, 2048 * GIB },
		{ "2T", 0, 2048 * GIB },
		{ "8GB", 0, UINT64_C(8000000000) },
		{ "1KB", 0, 1000 },
		{ "1MB", 0, 1000000 },
		{ "1TB", 0, UINT64_C(1000000000000) },
		{ "100B", 0, 100 },
		{ "1.0000000000000000000000000001G", 0, GIB },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "99999999999999999999999G", -ERANGE, 0 },
		{ "16777216T", -ERANGE, 0 },
		{ "16777215.9999999T", 0, UINT64_C(16777215) * 1024 * GIB + UINT64_C(1099511517824) },
		{ "", -EINVAL, 0 },
		{ " 8G", -EINVAL, 0 },
		{ "8G ", -EINVAL, 0 },
		{ "8 ", -EINVAL, 0 },
		{ "8  GiB", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "1e9", -EINVAL, 0 },
		{ ".5G", -EINVAL, 0 },
		{ "1.G", -EINVAL, 0 },
		{ "1.5", -EINVAL, 0 },
		{ "1.5B", -EINVAL, 0 },
		{ "1,5G", -EINVAL, 0 },
		{ "8Gi", -EINVAL, 0 },
		{ "8P", -EINVAL, 0 },
		{ "8GiBs", -EINVAL, 0 },
		{ "G", -EINVAL, 0 },
		{ "50%", -EINVAL, 0 },
		{ NULL, -EINVAL, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = KEEP;
		int r = size_parse(cases[i].text, &bytes);

		if (r != cases[i].result || bytes != (r ? KEEP : cases[i].bytes))
			fail_msg("'%s': %d, %llu; wanted %d, %llu", cases[i].text ? cases[i].text : "(null)", r,
				 (unsigned long long)bytes, cases[i].result, (unsigned long long)cases[i].bytes);
	}
}

static void test_percent_parse(void **state)
{
	static const struct {
		const char *text;
		int result;
		uint32_t permille;
	} cases[] = {
		{ "50%", 0, 500 },
		{ "12.5%", 0, 125 },
		{ "12.50%", 0, 125 },
		{ "0.1%", 0, 1 },
		{ "100%", 0, 1000 },
		{ "100.0%", 0, 1000 },
		{ "0%", -ERANGE, 0 },
		{ "0.0%", -ERANGE, 0 },
		{ "100.1%", -ERANGE, 0 },
		{ "101%", -ERANGE, 0 },
		{ "18446744073709551615%", -ERANGE, 0 },
		{ "99999999999999999999%", -ERANGE, 0 },
		{ "12.55%", -EINVAL, 0 },
		{ "50", -EINVAL, 0 },
		{ "50%%", -EINVAL, 0 },
		{ "50 %", -EINVAL, 0 },
		{ "-5%", -EINVAL, 0 },
		{ "%", -EINVAL, 0 },
		{ "5.%", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ NULL, -EINVAL, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t permille = KEEP;
		int r = percent_parse(cases[i].text, &permille);

		if (r != cases[i].result || permille != (r ? KEEP : cases[i].permille))
			fail_msg("'%s': %d, %u; wanted %d, %u", cases[i].text ? cases[i].text : "(null)", r, permille,
				 cases[i].result, cases[i].permille);
	}
}

static void test_size_format(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{ 0, "0 B" },
		{ 1023, "1023 B" },
		{ 1024, "1 KiB" },
		{ 1536, "1.5 KiB" },
		{ 512 << 20, "512 MiB" },
		{ 8 * GIB, "8 GiB" },
		{ GIB + GIB / 2, "1.5 GiB" },
		{ GIB + GIB / 100, "1 GiB" },
		{ GIB - 1, "1 GiB" },
		{ 1024 * GIB - 1, "1 TiB" },
		{ 1024 * GIB, "1 TiB" },
		{ UINT64_C(150754820096), "140.4 GiB" },
		{ UINT64_MAX, "16777216 TiB" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[SIZE_TEXT];

		assert_ptr_equal(size_format(text, cases[i].bytes), text);
		assert_string_equal(text, cases[i].text);
	}
}

/* What we print is what we read. */
static void test_round_trip(void **state)
{
	for (uint64_t bytes = 1; bytes < UINT64_C(1) << 44; bytes *= 2) {
		char text[SIZE_TEXT];
		uint64_t again;

		assert_int_equal(size_parse(size_format(text, bytes), &again), 0);
		assert_int_equal(again, bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size_parse),
		cmocka_unit_test(test_percent_parse),
		cmocka_unit_test(test_size_format),
		cmocka_unit_test(test_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
