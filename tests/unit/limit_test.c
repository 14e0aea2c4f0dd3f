/* SPDX-License-Identifier: Apache-2.0 */
/* policy/limit.c: memory limits against the GPUs that exist. */
#include "policy/limit.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define GIB (UINT64_C(1) << 30)
#define KEEP UINT64_C(99)	/* what an output holds before */

enum { GPUS = 3 };

static const struct limit_gpu gpus[GPUS] = {
	{ 0, "GPU-aaaa1111-0000-0000-0000-000000000000", 80 * GIB },
	{ 1, "GPU-aaaa2222-0000-0000-0000-000000000000", 80 * GIB },
	{ 3, "GPU-bbbb3333-0000-0000-0000-000000000000", 10 * GIB },
};

static void test_good(void **state)
{
	static const struct {
		const char *text;
		uint64_t limits[GPUS];
	} cases[] = {
		{ "8GiB", { 8 * GIB, 8 * GIB, 8 * GIB } },
		{ "50%", { 40 * GIB, 40 * GIB, 5 * GIB } },
		{ "100%", { 80 * GIB, 80 * GIB, 10 * GIB } },
		{ "12.5%", { 10 * GIB, 10 * GIB, GIB + GIB / 4 } },
		{ "0=8GiB", { 8 * GIB, 0, 0 } },
		{ "3=10GiB", { 0, 0, 10 * GIB } },
		{ "0=8GiB,1=4GiB", { 8 * GIB, 4 * GIB, 0 } },
		{ "1=25%,0=1.5G", { GIB + GIB / 2, 20 * GIB, 0 } },
		{ "GPU-bbbb=50%", { 0, 0, 5 * GIB } },
		{ "GPU-aaaa1=1G,3=1G", { GIB, 0, GIB } },
		{ "gpu-aaaa2=1G", { 0, GIB, 0 } },
		{ "GPU-aaaa2222-0000-0000-0000-000000000000=1G", { 0, GIB, 0 } },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t limits[GPUS] = { KEEP, KEEP, KEEP };
		struct error err = { 0 };

		if (limit_parse(cases[i].text, gpus, GPUS, limits, &err) != 0)
			fail_msg("'%s': %s", cases[i].text, err.text);
		for (int gpu = 0; gpu < GPUS; gpu++) {
			if (limits[gpu] != cases[i].limits[gpu])
				fail_msg("'%s', entry %d: %llu; wanted %llu", cases[i].text, gpu,
					 (unsigned long long)limits[gpu],
					 (unsigned long long)cases[i].limits[gpu]);
		}
	}
}

static void test_bad(void **state)
{
	static const struct {
		const char *text;
		int result;
		const char *says;	/* a part of the sentence */
	} cases[] = {
		{ "", -EINVAL, "empty" },
		{ NULL, -EINVAL, "empty" },
		{ "much", -EINVAL, "'much' is not a size" },
		{ "0", -EINVAL, "leaves no memory" },
		{ "0=0", -EINVAL, "leaves no memory" },
		{ "0%", -ERANGE, "'0%' is not a share" },
		{ "101%", -ERANGE, "at most 100" },
		{ "5x%", -EINVAL, "like 50%" },
		{ "0=8GiB,0=4GiB", -EINVAL, "GPU 0 is named twice" },
		{ "0=8GiB,GPU-aaaa1=4GiB", -EINVAL, "GPU 0 is named twice" },
		{ "2=8GiB", -ENODEV, "no GPU 2: this machine has GPU 0 (GPU-aaaa1111-" },
		{ "2=8GiB", -ENODEV, "GPU 3 (GPU-bbbb3333-0000-0000-0000-000000000000, 10 GiB)" },
		{ "00=8GiB", -ENODEV, "no GPU 00" },
		{ "GPU-cccc=1G", -ENODEV, "no GPU GPU-cccc" },
		{ "GPU-aaaa=1G", -EINVAL, "fits both GPU 0" },
		{ "GPU-bbb=1G", -EINVAL, "at least 8 characters" },
		{ "=1G", -EINVAL, "names no GPU" },
		{ "8GiB,4GiB", -EINVAL, "'8GiB' names no GPU" },
		{ "0=8GiB,", -EINVAL, "empty or overlong" },
		{ ",0=8GiB", -EINVAL, "empty or overlong" },
		{ "0=8GiB,,1=8GiB", -EINVAL, "empty or overlong" },
		{ "0=", -EINVAL, "'' is not a size" },
		{ "0=1=2", -EINVAL, "'1=2' is not a size" },
		{ "11GiB", -ERANGE, "more than GPU 3 has (10 GiB)" },
		{ "0=81GiB", -ERANGE, "more than GPU 0 has (80 GiB)" },
		{ "0=99999999999999999999G", -ERANGE, "more than GPU 0 has" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t limits[GPUS] = { KEEP, KEEP, KEEP };
		struct error err = { 0 };
		int r = limit_parse(cases[i].text, gpus, GPUS, limits, &err);

		if (r != cases[i].result || err.code != r || !strstr(err.text, cases[i].says))
			fail_msg("'%s': %d (%s); wanted %d (%s)", cases[i].text ? cases[i].text : "(null)", r, err.text,
				 cases[i].result, cases[i].says);
		for (int gpu = 0; gpu < GPUS; gpu++)
			assert_int_equal(limits[gpu], KEEP);
	}
}

static void test_no_gpu(void **state)
{
	uint64_t limit = KEEP;
	struct error err;

	assert_int_equal(limit_parse("1G", gpus, 0, &limit, &err), -ENODEV);
	assert_int_equal(limit_parse("0=1G", gpus, 1, &limit, NULL), 0);
	assert_int_equal(limit, GIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_no_gpu),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
