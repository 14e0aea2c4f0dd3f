/* SPDX-License-Identifier: Apache-2.0 */
/* rm/version.c: which driver is there, and which layouts to use for it. The rest of rm needs a driver:
 * tests/e2e. */
#include "rm/version.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void test_version_in_line(void **state)
{
	static const struct {
		const char *line, *version;
	} cases[] = {
		{ "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 22:20:39 UTC 2023\n",
		  "535.54.03" },
		{ "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  "
		  "(dvs-builder)  Tue\n",
		  "580.95.05" },
		{ "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  565.77  Release Build\n",
		  "565.77" },
		{ "NVRM version: NVIDIA UNIX x86_64 Kernel Module  unknown\n", NULL },
		{ "NVRM version: NVIDIA UNIX x86_64 Kernel Module", NULL },
		{ "GCC version:  gcc version 12.2.0\n", NULL },
		{ "", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[32] = "untouched";
		int r = rm_version_in_line(cases[i].line, text);

		assert_int_equal(r, cases[i].version ? 0 : -EINVAL);
		assert_string_equal(text, cases[i].version ? cases[i].version : "untouched");
	}
}

static void write_file(const char *path, const char *content, mode_t mode)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	fputs(content, file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void test_assume(void **state)
{
	static const struct {
		const char *content;
		mode_t mode;
		int result;
		const char *version;
	} cases[] = {
		{ "assume_layout = 580.159.04\n", 0644, 0, "580.159.04" },
		{ "# known good\n\nassume_layout=565.77\n", 0600, 0, "565.77" },
		{ "  assume_layout =535.54.03", 0644, 0, "535.54.03" },
		{ "# assume_layout = 580.159.04\n", 0644, -ENOENT, NULL },
		{ "", 0644, -ENOENT, NULL },
		{ "assume_layout = latest\n", 0644, -EINVAL, NULL },
		{ "assume_layout = 580.159.04\n", 0664, -EPERM, NULL },
		{ "assume_layout = 580.159.04\n", 0646, -EPERM, NULL },
	};
	char path[] = "/tmp/fracgpu-test-XXXXXX";
	struct error err;
	int fd;

	if (geteuid() != 0) {
		print_message("needs root, whose file it must be\n");
		skip();
	}
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[32] = "untouched";

		write_file(path, cases[i].content, cases[i].mode);
		assert_int_equal(rm_assume_read(path, text, &err), cases[i].result);
		assert_string_equal(text, cases[i].version ? cases[i].version : "untouched");
	}
	write_file(path, "assume_layout = 580.159.04\n", 0644);
	assert_int_equal(chown(path, 1, 0), 0);
	assert_int_equal(rm_assume_read(path, (char[32]){ 0 }, &err), -EPERM);
	unlink(path);
	assert_int_equal(rm_assume_read(path, (char[32]){ 0 }, &err), -ENOENT);
}

static void test_choose(void **state)
{
	char path[] = "/tmp/fracgpu-test-XXXXXX", text[32];
	struct abi_version version;
	struct abi_layout layout;
	struct error err;
	int fd;

	assert_int_equal(rm_layout_choose("580.95.05", "/nonexistent", &version, text, &layout, &err), 0);
	assert_string_equal(text, "580.95.05");
	assert_int_equal(version.minor, 95);
	assert_int_equal(layout.fb_info_v2_size, 1028);
	assert_int_equal(rm_layout_choose("470.10", "/nonexistent", &version, text, &layout, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "470.10"));
	assert_non_null(strstr(err.text, abi_supported()));
	if (geteuid() != 0)
		return;
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	write_file(path, "assume_layout = 535.54.03\n", 0644);
	assert_int_equal(rm_layout_choose("999.10", path, &version, text, &layout, &err), 0);
	assert_string_equal(text, "535.54.03");
	assert_int_equal(layout.fb_info_v2_size, 436);
	/* a version that is known is never replaced */
	assert_int_equal(rm_layout_choose("580.95.05", path, &version, text, &layout, &err), 0);
	assert_string_equal(text, "580.95.05");
	/* an assumed version must itself be known */
	write_file(path, "assume_layout = 998.10\n", 0644);
	assert_int_equal(rm_layout_choose("999.10", path, &version, text, &layout, &err), -ENOTSUP);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_version_in_line),
		cmocka_unit_test(test_assume),
		cmocka_unit_test(test_choose),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
