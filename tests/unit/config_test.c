/* SPDX-License-Identifier: Apache-2.0 */
/* src/runtime: config.json of bundles: read, judged, made to ask fracgpud, written. */
#include "runtime/config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/fracgpu-config-XXXXXX";

static void write_text(const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static char *read_text(void)
{
	static char text[8192];
	FILE *file = fopen(path, "r");
	size_t n;

	assert_non_null(file);
	n = fread(text, 1, sizeof(text) - 1, file);
	text[n] = '\0';
	fclose(file);
	return text;
}

static json_t *read_config(const char *text)
{
	struct error err;
	json_t *config;

	write_text(text);
	config = config_read(path, &err);
	if (!config)
		fail_msg("%s: %s", text, err.text);
	return config;
}

/* What is wrong is said with its place. */
static void test_faults(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "{\"a\": 1,\n \"b\": x}", "line 2, column 7" },
		{ "", "line 1, column 0" },
		{ "[1, 2]", "no object" },
		{ "{\"a\": 1, \"a\": 2}", "duplicate" },
		{ "{\"a\": \"unended", "line 1" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error err;

		write_text(cases[i].text);
		assert_null(config_read(path, &err));
		if (!strstr(err.text, cases[i].says) || !strstr(err.text, path))
			fail_msg("'%s' does not say '%s'", err.text, cases[i].says);
	}
	unlink(path);
	assert_null(config_read(path, &(struct error){ 0 }));
}

/* Limits of 2^64 - 1 are more than jansson's integers hold; strings that look like them stay strings. */
static void test_big_numbers(void **state)
{
	static const char text[] =
		"{\"hard\":18446744073709551615,\"name\":\"18446744073709551615\",\"n\":[7,"
		"9999999999999999999],\"s\":\"\\\"18446744073709551615\"}";
	json_t *config = read_config(text);
	struct error err;
	struct stat st;

	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(config_write(config, path, &err), 0);
	assert_string_equal(read_text(), text);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	json_decref(config);
}

static void test_uses_gpu(void **state)
{
	static const struct {
		const char *text;
		bool uses;
	} cases[] = {
		{ "{}", false },
		{ "{\"process\":{\"env\":[\"PATH=/bin\",\"X\"]}}", false },
		{ "{\"process\":{\"env\":[\"NVIDIA_VISIBLE_DEVICES=all\"]}}", true },
		{ "{\"process\":{\"env\":[\"NVIDIA_VISIBLE_DEVICES=void\"]}}", false },
		{ "{\"process\":{\"env\":[\"NVIDIA_VISIBLE_DEVICES=\"]}}", false },
		{ "{\"process\":{\"env\":[\"FRACGPU_MEMORY=8GiB\"]}}", true },
		{ "{\"process\":{\"env\":[\"FRACGPU_SLICE=train\"]}}", true },
		{ "{\"process\":{\"env\":[\"FRACGPU_MEMORY=\"]}}", true }, /* refused later, not overlooked */
		{ "{\"linux\":{\"devices\":[{\"path\":\"/dev/null\"}]}}", false },
		{ "{\"linux\":{\"devices\":[{\"path\":\"/dev/nvidia0\"}]}}", true },
		{ "{\"mounts\":[{\"source\":\"/dev/nvidiactl\",\"destination\":\"/dev/x\"}]}", true },
		{ "{\"mounts\":[{\"source\":\"/x\",\"destination\":\"/dev/nvidia0\"}]}", true },
		{ "{\"mounts\":[{\"source\":\"/dev\",\"destination\":\"/host\"}]}", true },
		{ "{\"hooks\":{\"prestart\":[{\"path\":\"/usr/bin/nvidia-container-runtime-hook\"}]}}",
		  true },
		{ "{\"hooks\":{\"createRuntime\":[{\"path\":\"/opt/bin/"
		  "fracgpu\",\"args\":[\"fracgpu\",\"cdi-hook\"]}]}}",
		  true },
		{ "{\"hooks\":{\"createRuntime\":[{\"path\":\"/opt/bin/"
		  "other\",\"args\":[\"other\",\"cdi-hook\"]}]}}",
		  false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *config = read_config(cases[i].text);

		if (config_uses_gpu(config) != cases[i].uses)
			fail_msg("%s: not %d", cases[i].text, cases[i].uses);
		json_decref(config);
	}
}

#define HOOK(words) "{\"path\":\"/usr/bin/fracgpu\",\"args\":[\"fracgpu\",\"cdi-hook\"" words "]}"

static void test_terms(void **state)
{
	static const struct {
		const char *text;
		bool is_given;
		const char *limit, *compute;
	} cases[] = {
		{ "{}", false, "", "" },
		{ "{\"process\":{\"env\":[\"NVIDIA_GPU_MEMORY_LIMIT=512\",\"CUDA_DEVICE_SM_LIMIT=25\"]}}",
		  false, "512MiB", "25%" },
		/* a device comes from the host, and the environment cannot undo it */
		{ "{\"process\":{\"env\":[\"FRACGPU_MEMORY=80GiB\",\"FRACGPU_COMPUTE=none\"]},\"hooks\":{"
		  "\"createRuntime\":[" HOOK(",\"--memory\",\"0=8GiB\",\"--compute\",\"25%\"") "]}}",
		  true, "0=8GiB", "25%" },
		{ "{\"hooks\":{\"createRuntime\":[" HOOK(",\"--memory\",\"0=8GiB\"") "," HOOK(
			  ",\"--memory\",\"1=4GiB\"") "]}}",
		  true, "0=8GiB,1=4GiB", "" },
	};
	struct wire_metadata m;
	struct error err;
	json_t *config;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		config = read_config(cases[i].text);
		assert_int_equal(config_terms(config, &m, &err), 0);
		assert_int_equal(m.is_given, cases[i].is_given);
		assert_string_equal(m.terms.limit, cases[i].limit);
		assert_string_equal(m.terms.compute, cases[i].compute);
		json_decref(config);
	}
	config = read_config("{\"process\":{\"env\":[\"NVIDIA_GPU_MEMORY_LIMIT=lots\"]}}");
	assert_int_equal(config_terms(config, &m, &err), -EINVAL);
	assert_non_null(strstr(err.text, "NVIDIA_GPU_MEMORY_LIMIT='lots'"));
	json_decref(config);
}

static void test_harden(void **state)
{
	static const struct {
		const char *text;
		int result;
		const char *metadata;
	} cases[] = {
		{ "{\"linux\":{}}", 0, "fracgpu" },
		{ "{\"linux\":{\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ERRNO\"}},\"process\":{\"env\":["
		  "\"GPU_MEM_LIMIT_GB=2\"]}}",
		  0, "fracgpu asks memory=2GiB" },
		{ "{\"linux\":{\"seccomp\":null},\"hooks\":{\"createRuntime\":[" HOOK(
			  ",\"--memory\",\"8GiB\"") "]}}",
		  0, "fracgpu memory=8GiB" },
		{ "{}", -EINVAL, NULL },
		{ "{\"linux\":{\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"/"
		  "other\"}}}",
		  -EBUSY, NULL },
		/* a hard profile stays as it is */
		{ "{\"linux\":{\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"/"
		  "s\",\"listenerMetadata\":"
		  "\"fracgpu memory=1GiB\"}},\"process\":{\"env\":[\"GPU_MEM_LIMIT_GB=2\"]}}",
		  0, "fracgpu memory=1GiB" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *config = read_config(cases[i].text), *section;
		struct error err;
		int r = config_harden(config, "/s", true, &err);

		if (r != cases[i].result)
			fail_msg("%s: %d, not %d", cases[i].text, r, cases[i].result);
		section = json_object_get(json_object_get(config, "linux"), "seccomp");
		if (r == 0) {
			assert_string_equal(json_string_value(json_object_get(section, "listenerPath")),
					    "/s");
			assert_string_equal(json_string_value(json_object_get(section, "listenerMetadata")),
					    cases[i].metadata);
		}
		json_decref(config);
	}
}

static int make_file(void **state)
{
	int fd = mkstemp(path);

	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
	unlink(path);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults),	 cmocka_unit_test(test_big_numbers),
		cmocka_unit_test(test_uses_gpu), cmocka_unit_test(test_terms),
		cmocka_unit_test(test_harden),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
