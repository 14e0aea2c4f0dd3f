/* SPDX-License-Identifier: Apache-2.0 */
/* src/runtime: profiles that ask fracgpud, of any other; which runtimes take which flags. */
#include "runtime/profile.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/docker.h"
#include "runtime/low.h"

enum { ARGUMENTS = 6 };

static const char notify[] = "SCMP_ACT_NOTIFY", allow[] = "SCMP_ACT_ALLOW";

static json_t *parse(const char *text)
{
	json_error_t fault;
	json_t *value = json_loads(text, 0, &fault);

	if (!value)
		fail_msg("%s: %s", text, fault.text);
	return value;
}

static int harden(json_t *profile, bool wait_killable)
{
	const struct profile_options options = { "/agent.sock", "fracgpu", wait_killable };
	struct error err;

	return profile_harden(profile, &options, &err);
}

/* Compares one argument as libseccomp does (seccomp_rule_add(3)). */
static bool argument_fits(const json_t *arg, const uint64_t values[ARGUMENTS])
{
	const char *op = json_string_value(json_object_get(arg, "op"));
	uint64_t value = values[json_integer_value(json_object_get(arg, "index"))];
	uint64_t one = (uint64_t)json_integer_value(json_object_get(arg, "value"));
	uint64_t two = (uint64_t)json_integer_value(json_object_get(arg, "valueTwo"));

	if (strcmp(op, "SCMP_CMP_MASKED_EQ") == 0)
		return (value & one) == two;
	return strcmp(op, "SCMP_CMP_EQ") == 0 ? value == one : value != one;
}

static bool has_name(const json_t *rule, const char *name)
{
	const json_t *names = json_object_get(rule, "names");

	for (size_t i = 0; i < json_array_size(names); i++) {
		if (strcmp(json_string_value(json_array_get(names, i)), name) == 0)
			return true;
	}
	return false;
}

/* How many rules with an action fit a call. */
static int count(const json_t *profile, const char *action, const char *name,
		 const uint64_t values[ARGUMENTS])
{
	const json_t *rules = json_object_get(profile, "syscalls");
	int found = 0;

	for (size_t i = 0; i < json_array_size(rules); i++) {
		const json_t *rule = json_array_get(rules, i), *args = json_object_get(rule, "args");
		bool fits = strcmp(json_string_value(json_object_get(rule, "action")), action) == 0 &&
			    has_name(rule, name);

		for (size_t a = 0; fits && a < json_array_size(args); a++)
			fits = argument_fits(json_array_get(args, a), values);
		found += fits;
	}
	return found;
}

static const char closed_text[] =
	"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\",\"ioctl\",\"mmap\","
	"\"ioctl\",\"mmap2\"],"
	"\"action\":\"SCMP_ACT_ALLOW\"},{\"name\":\"ioctl\",\"action\":\"SCMP_ACT_ALLOW\",\"args\":[]}]}";

/* A call fits rules that ask, or rules that allow, never both: which one counts would be up to libseccomp. */
static void test_disjoint(void **state)
{
	static const struct {
		const char *name;
		uint64_t values[ARGUMENTS];
		bool asks;
	} cases[] = {
		{ "ioctl", { 3, 0xc020462a }, true }, /* NV_ESC_RM_CONTROL */
		{ "ioctl", { 3, 0x0020002a }, true }, /* the same without what the driver never looks at */
		{ "ioctl", { 3, 0xdeadbeefc020462aull }, true },
		{ "ioctl", { 3, 0x30000001 }, true }, /* UVM_INITIALIZE */
		{ "ioctl", { 3, 0x25 }, true }, /* UVM_REGISTER_GPU */
		{ "ioctl", { 3, 0x5401 }, false }, /* TCGETS */
		{ "ioctl", { 3, 0x541b }, false }, /* FIONREAD */
		{ "ioctl", { 3, 0x8912 }, false }, /* SIOCGIFCONF */
		{ "mmap", { 0, 4096, 3, 0x01, 3, 0 }, true }, /* MAP_SHARED */
		{ "mmap2", { 0, 4096, 3, 0x11, 3, 0 }, true }, /* and MAP_FIXED */
		{ "mmap", { 0, 4096, 3, 0x02, 3, 0 }, false },
		{ "mmap", { 0, 4096, 3, 0x21, -1ull, 0 }, false }, /* and MAP_ANONYMOUS */
		{ "mmap", { 0, 4096, 3, 0x22, -1ull, 0 }, false },
	};
	json_t *profile = parse(closed_text);

	assert_int_equal(harden(profile, false), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool asks = count(profile, notify, cases[i].name, cases[i].values) > 0;
		bool is_allowed = count(profile, allow, cases[i].name, cases[i].values) > 0;

		if (asks != cases[i].asks || is_allowed == asks)
			fail_msg("%s 0x%llx: asks %d, allowed %d", cases[i].name,
				 (unsigned long long)cases[i].values[1], asks, is_allowed);
	}
	for (uint64_t request = 0; request < 0x40000000; request += 0x3f1) {
		const uint64_t values[ARGUMENTS] = { 3, request };
		bool asks = count(profile, notify, "ioctl", values) > 0,
		     is_allowed = count(profile, allow, "ioctl", values) > 0;

		if (asks == is_allowed)
			fail_msg("ioctl 0x%llx: asks %d, allowed %d", (unsigned long long)request, asks,
				 is_allowed);
	}
	json_decref(profile);
}

static void test_sections(void **state)
{
	static const struct {
		const char *profile;
		int result;
	} cases[] = {
		{ "{}", -EINVAL },
		{ "{\"defaultAction\":7}", -EINVAL },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":{}}", -EINVAL },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":null}", 0 },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"\"}", 0 },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"/agent.sock\"}", -EALREADY },
		{ "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"/other.sock\"}", -EBUSY },
		{ "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"ioctl\"],\"action\":"
		  "\"SCMP_ACT_ALLOW\","
		  "\"args\":[{\"index\":1,\"value\":21505,\"op\":\"SCMP_CMP_EQ\"}]}]}",
		  -ENOTSUP },
		/* what is refused stays refused */
		{ "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"ioctl\"],\"action\":"
		  "\"SCMP_ACT_KILL\"}]}",
		  0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *profile = parse(cases[i].profile);
		int r = harden(profile, false);

		if (r != cases[i].result)
			fail_msg("%s: %d, not %d", cases[i].profile, r, cases[i].result);
		json_decref(profile);
	}
}

static void test_refused_stays(void **state)
{
	static const uint64_t driver[ARGUMENTS] = { 3, 0xc020462a };
	json_t *profile =
		parse("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],\"action\":"
		      "\"SCMP_ACT_ALLOW\"}]}");

	assert_int_equal(harden(profile, false), 0);
	assert_int_equal(count(profile, notify, "ioctl", driver) + count(profile, allow, "ioctl", driver), 0);
	json_decref(profile);
}

static void test_flag(void **state)
{
	json_t *profile =
		parse("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\"]}");
	json_t *flags;

	assert_int_equal(harden(profile, true), 0);
	flags = json_object_get(profile, "flags");
	assert_int_equal(json_array_size(flags), 2);
	assert_string_equal(json_string_value(json_array_get(flags, 1)),
			    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV");
	assert_string_equal(json_string_value(json_object_get(profile, "listenerPath")), "/agent.sock");
	assert_string_equal(json_string_value(json_object_get(profile, "listenerMetadata")), "fracgpu");
	json_decref(profile);
	profile = parse("{\"defaultAction\":\"SCMP_ACT_ALLOW\"}");
	assert_int_equal(harden(profile, false), 0);
	assert_null(json_object_get(profile, "flags"));
	json_decref(profile);
}

static size_t with_condition(const json_t *profile, const char *key)
{
	const json_t *rules = json_object_get(profile, "syscalls");
	size_t found = 0;

	for (size_t i = 0; i < json_array_size(rules); i++)
		found += has_name(json_array_get(rules, i), "ioctl") &&
			 json_object_get(json_array_get(rules, i), key);
	return found;
}

/* A rule for one capability only must not become one for everybody. */
static void test_conditions(void **state)
{
	static const char one[] =
		"{\"names\":[\"ioctl\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"caps\":[\"CAP_X\"]}}";
	static const char two[] =
		"{\"names\":[\"ioctl\"],\"action\":\"SCMP_ACT_ALLOW\",\"excludes\":{\"arches\":[\"s390\"]}}";
	static const char all[] = "{\"names\":[\"ioctl\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{}}";
	char text[1024];
	json_t *profile;
	size_t rules;

	snprintf(text, sizeof(text), "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[%s,%s,%s]}", one,
		 two, one);
	profile = parse(text);
	assert_int_equal(harden(profile, false), 0);
	rules = json_array_size(json_object_get(profile, "syscalls"));
	assert_int_equal(with_condition(profile, "includes"), rules / 2);
	assert_int_equal(with_condition(profile, "excludes"), rules / 2);
	json_decref(profile);

	snprintf(text, sizeof(text), "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[%s,%s,%s]}", one,
		 all, two);
	profile = parse(text);
	assert_int_equal(harden(profile, false), 0);
	assert_int_equal(with_condition(profile, "includes") + with_condition(profile, "excludes"), 0);
	assert_int_equal(json_array_size(json_object_get(profile, "syscalls")), rules / 2);
	json_decref(profile);
}

static void test_docker(void **state)
{
	static const uint64_t any[ARGUMENTS] = { 3, 0xc020462a }, none[ARGUMENTS] = { 0 };
	struct error err;
	json_t *profile = docker_default(&err);

	if (!profile) {
		assert_int_equal(err.code, -ENOTSUP);
		skip();
	}
	assert_int_equal(docker_flatten(profile, &err), 0);
	assert_int_equal(harden(profile, false), 0);
	assert_int_equal(count(profile, allow, "ioctl", any), 0);
	assert_true(count(profile, notify, "ioctl", any) > 0);
	assert_int_equal(count(profile, allow, "openat", none), 1);
	assert_int_equal(count(profile, allow, "clone", none), 1);
	assert_int_equal(count(profile, allow, "clone3", none), 0);
	assert_int_equal(count(profile, allow, "chroot", none), 1); /* Docker gives CAP_SYS_CHROOT */
	assert_int_equal(count(profile, allow, "mount", none) + count(profile, allow, "kexec_load", none) +
				 count(profile, allow, "bpf", none) + count(profile, allow, "keyctl", none),
			 0);
	assert_null(json_object_get(profile, "archMap"));
	assert_true(json_array_size(json_object_get(profile, "architectures")) > 1);
	json_decref(profile);
}

static void test_flag_versions(void **state)
{
	static const struct {
		const char *line;
		bool knows;
	} cases[] = {
		{ "crun version 1.8.1\n", true },
		{ "crun version 1.5\n", false },
		{ "crun version 0.21\n", false },
		{ "crun version 2.0\n", true },
		{ "runc version 1.1.5+ds1\n", false },
		{ "runc version 1.5.0\n", true },
		{ "runc version 1.10.0\n", true },
		{ "youki version 9.9\n", false },
		{ "", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (low_line_knows_flag(cases[i].line) != cases[i].knows)
			fail_msg("%s", cases[i].line);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_disjoint),      cmocka_unit_test(test_sections),
		cmocka_unit_test(test_refused_stays), cmocka_unit_test(test_flag),
		cmocka_unit_test(test_conditions),    cmocka_unit_test(test_docker),
		cmocka_unit_test(test_flag_versions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
