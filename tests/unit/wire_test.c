/* SPDX-License-Identifier: Apache-2.0 */
/* src/wire: the metadata of hand-offs, and the names by which containers ask. */
#include "wire/wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_metadata(void **state)
{
	static const struct {
		const char *text;
		int result;
		bool is_given;
		const char *limit, *compute, *slice;
	} cases[] = {
		{ "fracgpu", 0, false, "", "", "" },
		{ "fracgpu memory=8GiB", 0, true, "8GiB", "", "" },
		{ "fracgpu asks memory=0=8GiB,1=50%", 0, false, "0=8GiB,1=50%", "", "" },
		{ "fracgpu memory=8GiB compute=50%", 0, true, "8GiB", "50%", "" },
		{ "fracgpu asks memory=1 compute=none slice=a", 0, false, "1", "none", "a" },
		{ "fracgpu slice=train", 0, true, "", "", "train" },
		{ "fracgpu asks", 0, false, "", "", "" },
		{ "", -EINVAL, false, "", "", "" },
		{ "fracgp", -EINVAL, false, "", "", "" },
		{ "fracgpux", -EINVAL, false, "", "", "" },
		{ "fracgpu ", -EINVAL, false, "", "", "" },
		{ "fracgpu memory=", -EINVAL, false, "", "", "" },
		{ "fracgpu memory=1  compute=2%", -EINVAL, false, "", "", "" },
		{ "fracgpu memory=1 memory=2", -EINVAL, false, "", "", "" },
		{ "fracgpu memory=1 asks", -EINVAL, false, "", "",
		  "" }, /* must not become less by what follows */
		{ "fracgpu other=1", -EINVAL, false, "", "", "" },
		{ "fracgpu memory=1\n", -EINVAL, false, "", "", "" },
		{ "fracgpu compute=12345678901234567890", -EINVAL, false, "", "", "" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wire_metadata m = { 0 };
		char text[WIRE_METADATA];
		int r = wire_metadata_unpack(cases[i].text, &m);

		if (r != cases[i].result)
			fail_msg("'%s': %d, not %d", cases[i].text, r, cases[i].result);
		if (r < 0)
			continue;
		assert_int_equal(m.is_given, cases[i].is_given);
		assert_string_equal(m.terms.limit, cases[i].limit);
		assert_string_equal(m.terms.compute, cases[i].compute);
		assert_string_equal(m.terms.slice, cases[i].slice);
		assert_int_equal(wire_metadata_pack(&m, text), 0);
		if (wire_has_terms(&m.terms))
			assert_string_equal(text, cases[i].text);
	}
}

static void test_pack_refuses(void **state)
{
	struct wire_metadata m = { .is_given = true, .terms.limit = "8 GiB" };
	char text[WIRE_METADATA];

	assert_int_equal(wire_metadata_pack(&m, text), -EINVAL);
	memset(&m.terms, 'x', sizeof(m.terms));
	m.terms.limit[WIRE_LIMIT - 1] = m.terms.compute[WIRE_SHARE - 1] = m.terms.slice[WIRE_NAME - 1] = '\0';
	m.is_given = false;
	assert_int_equal(wire_metadata_pack(&m, text), 0); /* the longest has room */
	assert_true(strlen(text) < sizeof(text));
}

static void test_memory_names(void **state)
{
	static const struct {
		const char *name, *value;
		int result;
		const char *limit;
	} cases[] = {
		{ "FRACGPU_MEMORY", "8GiB", 0, "8GiB" },
		{ "FRACGPU_MEMORY", "0=8GiB,1=25%", 0, "0=8GiB,1=25%" },
		{ "FRACGPU_MEMORY", "", -EINVAL, "" },
		{ "FRACGPU_MEMORY", "8 GiB", -EINVAL, "" },
		{ "FRACGPU_MEMORY_1", "8GiB", 0, "1=8GiB" },
		{ "FRACGPU_MEMORY_1", "8GiB,2=9GiB", -EINVAL, "" },
		{ "FRACGPU_MEMORY_x", "8GiB", -EINVAL, "" },
		{ "NVIDIA_GPU_MEMORY_LIMIT", "8192", 0, "8192MiB" },
		{ "NVIDIA_GPU_MEMORY_LIMIT", "8192m", -EINVAL, "" },
		{ "NVIDIA_GPU_MEMORY_LIMIT", "-1", -EINVAL, "" },
		{ "NVIDIA_GPU_MEMORY_LIMIT", "0x10", -EINVAL, "" },
		{ "NVIDIA_GPU_MEMORY_REQUEST", "512", 0, "512MiB" },
		{ "CUDA_DEVICE_MEMORY_LIMIT", "8g", 0, "8G" },
		{ "CUDA_DEVICE_MEMORY_LIMIT", "8192M", 0, "8192M" },
		{ "CUDA_DEVICE_MEMORY_LIMIT", "1073741824", 0, "1073741824" },
		{ "CUDA_DEVICE_MEMORY_LIMIT_0", "4096m", 0, "0=4096M" },
		{ "CUDA_DEVICE_MEMORY_LIMIT_", "1g", -EINVAL, "" },
		{ "GPU_MEM_LIMIT_GB", "7.5", 0, "7.5GiB" },
		{ "GPU_MEM_LIMIT_GB", "lots", -EINVAL, "" },
		{ "GPU_MEM_LIMIT_GBX", "lots", 0, "" },
		{ "PATH", "/bin", 0, "" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wire_ask ask = { 0 };
		int r = wire_ask_variable(&ask, cases[i].name, cases[i].value);

		if (r != cases[i].result || strcmp(ask.terms.limit, cases[i].limit) != 0)
			fail_msg("%s=%s: %d '%s', not %d '%s'", cases[i].name, cases[i].value, r,
				 ask.terms.limit, cases[i].result, cases[i].limit);
	}
}

/* Ask for all of a list "NAME=VALUE NAME=VALUE". */
static void ask_all(struct wire_ask *ask, const char *variables)
{
	char text[256], *rest = NULL;

	memset(ask, 0, sizeof(*ask));
	snprintf(text, sizeof(text), "%s", variables);
	for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		char *equals = strchr(word, '=');

		*equals = '\0';
		assert_int_equal(wire_ask_variable(ask, word, equals + 1), 0);
	}
}

static void test_order(void **state)
{
	static const struct {
		const char *variables, *limit, *compute, *slice;
	} cases[] = {
		{ "GPU_MEM_LIMIT_GB=1 FRACGPU_MEMORY=2GiB NVIDIA_GPU_MEMORY_LIMIT=3", "2GiB", "", "" },
		{ "FRACGPU_MEMORY=2GiB FRACGPU_MEMORY=9GiB", "2GiB", "", "" },
		{ "CUDA_DEVICE_MEMORY_LIMIT=8g CUDA_DEVICE_MEMORY_LIMIT_1=2g CUDA_DEVICE_MEMORY_LIMIT_0=1g",
		  "1=2G,0=1G", "", "" },
		{ "FRACGPU_MEMORY_0=1GiB NVIDIA_GPU_MEMORY_LIMIT=3 FRACGPU_MEMORY_1=2GiB", "0=1GiB,1=2GiB",
		  "", "" },
		{ "NVIDIA_GPU_MEMORY_REQUEST=1 NVIDIA_GPU_MEMORY_LIMIT=2", "2MiB", "", "" },
		{ "NVIDIA_GPU_MEMORY_REQUEST=1 GPU_MEM_LIMIT_GB=2", "2GiB", "", "" },
		{ "CUDA_DEVICE_SM_LIMIT=30 FRACGPU_COMPUTE=25", "", "25%", "" },
		{ "FRACGPU_COMPUTE=12.5% CUDA_DEVICE_SM_LIMIT=30", "", "12.5%", "" },
		{ "CUDA_DEVICE_SM_LIMIT=0", "", "none", "" },
		{ "FRACGPU_COMPUTE=none FRACGPU_SLICE=a FRACGPU_SLICE=b", "", "none", "a" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wire_ask ask;

		ask_all(&ask, cases[i].variables);
		assert_string_equal(ask.terms.limit, cases[i].limit);
		assert_string_equal(ask.terms.compute, cases[i].compute);
		assert_string_equal(ask.terms.slice, cases[i].slice);
	}
}

static void test_shares_refused(void **state)
{
	static const char *const values[] = { "", "%", "a lot", "50%%", "123456789%", "-5" };

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		struct wire_ask ask = { 0 };

		assert_int_equal(wire_ask_variable(&ask, "FRACGPU_COMPUTE", values[i]), -EINVAL);
		assert_int_equal(wire_ask_variable(&ask, "CUDA_DEVICE_SM_LIMIT", values[i]), -EINVAL);
		assert_int_equal(ask.compute_rank, 0);
	}
}

/* More indexed limits than there is room for are refused, not cut. */
static void test_full(void **state)
{
	struct wire_ask ask = { 0 };
	char name[64];
	int r = 0;

	for (int i = 0; i < 100 && r == 0; i++) {
		snprintf(name, sizeof(name), "FRACGPU_MEMORY_%d", i);
		r = wire_ask_variable(&ask, name, "8GiB");
	}
	assert_int_equal(r, -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_metadata),       cmocka_unit_test(test_pack_refuses),
		cmocka_unit_test(test_memory_names),   cmocka_unit_test(test_order),
		cmocka_unit_test(test_shares_refused), cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
