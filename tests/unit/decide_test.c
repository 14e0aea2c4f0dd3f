/* SPDX-License-Identifier: Apache-2.0 */
/* src/daemon: the host's policy file, hand-offs, and what a container gets. */
#include "daemon/daemon.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/members.h"
#include "daemon/pod.h"

#define LONG_ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char path[] = "/tmp/fracgpu-policy-XXXXXX";
static struct daemon_config config;

static int load(const char *text, struct error *err)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
	return config_load(path, &config, err);
}

static void test_config(void **state)
{
	static const struct {
		const char *text;
		int line; /* 0: fine */
	} cases[] = {
		{ "", 0 },
		{ "[default]\nmemory = 1GiB\nmax = 50%\ncompute = 50%\nmax-compute = none\novercommit = "
		  "no\non-breach = kill\n",
		  0 },
		{ "[default]\nmemory = 1 GiB\n", 2 },
		{ "[default]\ncompute = lots\n", 2 },
		{ "[default]\nother = 1\n", 2 },
		{ "[container a*]\nmemory = 1GiB\ncompute = 25%\n[user 1000]\nmemory = 2GiB\n[container "
		  "b]\nslice = train\n",
		  0 },
		{ "[container a]\nslice = ../x\n", 2 },
		{ "[container a]\nother = 1\n", 2 },
		{ "[user joe]\nmemory = 1GiB\n", 2 },
		{ "[other]\nmemory = 1GiB\n", 2 },
		{ "[pod team-*/*]\nmemory = 1GiB\ncompute = 25%\n[pod lab/train-?]\nslice = train\n", 0 },
		{ "[default]\nmemory = 1GiB\n [pod/x]\n", 3 }, /* indented: it goes on, as inih has it */
		{ "[pod train]\nmemory = 1GiB\n", 2 },
	};
	char line[32];

	if (geteuid() != 0)
		skip(); /* the file must be root's */
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error err;
		int r = load(cases[i].text, &err);

		if (r != (cases[i].line ? -EINVAL : 0))
			fail_msg("%s: %d %s", cases[i].text, r, r < 0 ? err.text : "");
		snprintf(line, sizeof(line), "line %d", cases[i].line);
		if (r < 0 && !strstr(err.text, line))
			fail_msg("%s: '%s' does not say %s", cases[i].text, err.text, line);
	}
	assert_int_equal(load(cases[5].text, NULL), 0);
	assert_int_equal(config.rule_count, 3);
	assert_true(config.has_users);
	assert_string_equal(config.rules[0].terms.limit, "1GiB");
	assert_string_equal(config.rules[0].terms.compute, "25%");
	assert_string_equal(config.rules[2].terms.slice, "train");
	/* longer than inih keeps */
	assert_int_equal(load("[container " LONG_ID "]\nmemory = 1GiB\n[container " LONG_ID
			      "2]\nmemory = 2GiB\n",
			      NULL),
			 0);
	assert_int_equal(config.rule_count, 2);
	assert_string_equal(config.rules[0].glob, LONG_ID);
	assert_string_equal(config.rules[1].glob, LONG_ID "2");
}

static const char policy[] =
	"[default]\nmemory = 1GiB\nmax = 4GiB\nmax-compute = 60%\n[container fixed*]\nmemory = 3GiB\n"
	"[container joined]\nslice = train\n[user 1000]\nmemory = 2GiB\n";

/* Host's policy, then what is given, then the environment, then annotations; users have the policy alone. */
static void test_decide(void **state)
{
	static const struct {
		uid_t uid;
		const char *id, *metadata, *annotations;
		int result;
		bool is_given;
		const char *limit, *compute, *slice, *cap;
	} cases[] = {
		{ 0, "x", "fracgpu", NULL, 0, false, "1GiB", "60%", "", "4GiB" },
		{ 0, "x", "fracgpu asks memory=9GiB compute=70%", NULL, 0, false, "9GiB", "60%", "", "4GiB" },
		{ 0, "x", "fracgpu asks compute=25%", NULL, 0, false, "1GiB", "25%", "", "4GiB" },
		{ 0, "x", "fracgpu memory=9GiB", NULL, 0, true, "9GiB", "", "", "" },
		{ 0, "x", "fracgpu memory=9GiB", "{\"fracgpu.io/memory\":\"80GiB\"}", 0, true, "9GiB", "", "",
		  "" },
		{ 0, "x", "fracgpu", "{\"fracgpu.io/memory\":\"2GiB\",\"gpu-memory\":\"7\"}", 0, false,
		  "2GiB", "60%", "", "4GiB" },
		{ 0, "x", "fracgpu asks memory=3GiB", "{\"fracgpu.io/memory\":\"2GiB\"}", 0, false, "3GiB",
		  "60%", "", "4GiB" },
		{ 0, "x", "fracgpu", "{\"gpu-memory\":\"2048\",\"gpu-fraction\":\"0.5\"}", 0, false,
		  "2048MiB", "60%", "", "4GiB" },
		{ 0, "x", "fracgpu", "{\"gpu-fraction\":\"0.25\"}", 0, false, "25.0%", "60%", "", "4GiB" },
		{ 0, "x", "fracgpu", "{\"gpu-fraction\":\"all\"}", 0, false, "1GiB", "60%", "", "4GiB" },
		{ 0, "x", "fracgpu", "{\"fracgpu.io/memory\":\"2 GiB\"}", -EINVAL, false, "", "", "", "" },
		{ 0, "x", "fracgpu slice=train", NULL, 0, true, "1GiB", "", "train", "" },
		{ 0, "x", "fracgpu asks slice=train", NULL, 0, false, "1GiB", "60%", "train", "4GiB" },
		{ 0, "fixed-1", "fracgpu memory=9GiB", NULL, 0, true, "3GiB", "", "", "" },
		{ 0, "joined", "fracgpu asks memory=9GiB", NULL, 0, true, "1GiB", "", "train", "" },
		{ 0, "x", "other agent", NULL, -EINVAL, false, "", "", "", "" },
		/* what a user's runtime says is only words */
		{ 1000, "fixed-1", "fracgpu memory=9GiB", "{\"fracgpu.io/memory\":\"80GiB\"}", 0, true,
		  "2GiB", "", "", "" },
		{ 1001, "x", "fracgpu memory=1GiB", NULL, -EPERM, false, "", "", "", "" },
	};

	if (geteuid() != 0)
		skip();
	assert_int_equal(load(policy, NULL), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct handoff h = { .listener = -1, .uid = cases[i].uid };
		struct decision d = { 0 };
		struct error err;
		int r;

		snprintf(h.id, sizeof(h.id), "%s", cases[i].id);
		snprintf(h.metadata, sizeof(h.metadata), "%s", cases[i].metadata);
		if (cases[i].annotations)
			h.annotations = json_loads(cases[i].annotations, 0, NULL);
		r = decide(&config, &h, &d, &err);
		if (r != cases[i].result || d.is_given != cases[i].is_given ||
		    strcmp(d.terms.limit, cases[i].limit) != 0 ||
		    strcmp(d.terms.compute, cases[i].compute) != 0 ||
		    strcmp(d.terms.slice, cases[i].slice) != 0 || strcmp(d.cap, cases[i].cap) != 0)
			fail_msg("case %zu: %d, given %d, '%s' '%s' '%s' cap '%s'", i, r, d.is_given,
				 d.terms.limit, d.terms.compute, d.terms.slice, d.cap);
		handoff_done(&h);
	}
}

/* By the names of pods: of containerd, of CRI-O, of both, which somebody made up. */
static void test_pods(void **state)
{
#define CONTAINERD(ns, name) \
	"\"io.kubernetes.cri.sandbox-namespace\":\"" ns "\",\"io.kubernetes.cri.sandbox-name\":\"" name "\""
#define CRIO(ns, name) "\"io.kubernetes.pod.namespace\":\"" ns "\",\"io.kubernetes.pod.name\":\"" name "\""
	static const struct {
		uid_t uid;
		const char *annotations;
		int result;
		const char *limit;
	} cases[] = {
		{ 0, NULL, 0, "9GiB" },
		{ 0, "{}", 0, "9GiB" },
		{ 0, "{" CONTAINERD("team-a", "x") "}", 0, "2GiB" },
		{ 0, "{" CONTAINERD("team-a", "train-1") "}", 0, "3GiB" },
		{ 0, "{" CONTAINERD("steam-a", "x") "}", 0, "9GiB" },
		{ 0, "{" CONTAINERD("team-a", "") "}", 0, "9GiB" },
		{ 0, "{" CRIO("team-b", "x") "}", 0, "2GiB" },
		{ 0, "{" CRIO("team-b", "x") ",\"fracgpu.io/memory\":\"80GiB\"}", 0, "2GiB" },
		{ 0, "{" CRIO("team-b", "x") "," CONTAINERD("other", "y") "}", -EPERM, "" },
		{ 0, "{\"io.kubernetes.cri.container-name\":\"c\"," CRIO("team-b", "x") "}", -EPERM, "" },
		{ 1000, "{" CRIO("team-b", "x") "}", 0, "1GiB" },
	};

	if (geteuid() != 0)
		skip();
	assert_int_equal(load("[pod team-a/train-*]\nmemory = 3GiB\n[pod team-*/*]\nmemory = 2GiB\n[user "
			      "1000]\nmemory = 1GiB\n",
			      NULL),
			 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct handoff h = { .listener = -1, .uid = cases[i].uid, .id = "x",
				     .metadata = "fracgpu asks memory=9GiB" };
		struct decision d = { 0 };
		struct error err;
		int r;

		if (cases[i].annotations)
			h.annotations = json_loads(cases[i].annotations, 0, NULL);
		r = decide(&config, &h, &d, &err);
		if (r != cases[i].result || strcmp(d.terms.limit, cases[i].limit) != 0)
			fail_msg("case %zu: %d '%s'", i, r, d.terms.limit);
		handoff_done(&h);
	}
	/* nobody asks for pods: what their authors wrote is not looked at */
	assert_int_equal(load("[default]\nmemory = 4GiB\n", NULL), 0);
	{
		struct handoff h = { .listener = -1, .id = "x", .metadata = "fracgpu" };
		struct decision d;

		h.annotations = json_loads("{" CRIO("a", "b") "," CONTAINERD("c", "d") "}", 0, NULL);
		assert_int_equal(decide(&config, &h, &d, NULL), 0);
		assert_string_equal(d.terms.limit, "4GiB");
		handoff_done(&h);
	}
}

/* Only where kubelet alone makes files: whatever else a pod mounts there is not written to. */
static void test_last_words(void **state)
{
	static const struct {
		const char *path;
		bool is_kubelets;
	} cases[] = {
		{ "/pods/1234/containers/work/0a1b2c3d", true },
		{ "/pods/1234/containers/work/", false },
		{ "/pods/1234/containers/work", false },
		{ "/pods/1234/containers//x", false },
		{ "/pods//containers/work/x", false },
		{ "/pods/1234/containers/work/x/y", false },
		{ "/pods/1234/containers/../x", false },
		{ "/pods/../containers/work/x", false },
		{ "/pods/1234/containers/work/..", false },
		{ "/pods/1234/volumes/v/pods/5/containers/work/x", false },
		{ "/pods/1234/containersx/work/x", false },
		{ "/pods1234/containers/work/x", false },
		{ "/etc/shadow", false },
		{ "/pods", false },
		{ "", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (pod_is_last_words(cases[i].path, "/pods") != cases[i].is_kubelets)
			fail_msg("%s", cases[i].path);
	}
	pod_tell("", "nothing to be done");
	pod_tell("/no/such/bundle", "nothing to be done");
}

static void test_handoff(void **state)
{
	static const struct {
		const char *text;
		int result;
	} cases[] = {
		{ "{\"pid\":7,\"metadata\":\"fracgpu\",\"state\":{\"id\":\"a\",\"status\":\"creating\","
		  "\"bundle\":\"/b\"}}",
		  0 },
		{ "{\"pid\":7,\"metadata\":\"fracgpu\",\"state\":{\"id\":\"a\",\"status\":\"creating\"}} "
		  "more",
		  0 },
		{ "{\"pid\":7,\"metadata\":\"fracg", -EAGAIN },
		{ "{\"pid\":7}", -EINVAL },
		{ "{\"state\":{\"id\":\"../a\",\"status\":\"creating\"}}", -EINVAL },
		{ "{\"state\":{\"id\":\".a\",\"status\":\"creating\"}}", -EINVAL },
		{ "nonsense", -EINVAL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct handoff h = { .listener = -1 };
		struct error err;
		int r = handoff_parse(cases[i].text, strlen(cases[i].text), &h, &err);

		if (r != cases[i].result)
			fail_msg("%s: %d, not %d", cases[i].text, r, cases[i].result);
		handoff_done(&h);
	}
}

static void test_members(void **state)
{
	static struct members m;
	char id[MEMBER_ID], name[16];
	int first;

	members_init(&m);
	assert_int_equal(members_join(&m, "a", 0), -ESRCH); /* an exec of a container that is not here */
	first = members_join(&m, "a", getpid());
	assert_true(first >= 0);
	assert_true(members_has(&m, getpid()));
	assert_int_equal(members_join(&m, "a", 0), first);
	assert_false(members_leave(&m, first, id));
	assert_true(members_leave(&m, first, id));
	assert_string_equal(id, "a");
	assert_false(members_has(&m, getpid()));
	for (int i = 0; i < MEMBERS; i++) {
		snprintf(name, sizeof(name), "c%d", i);
		assert_true(members_join(&m, name, getpid()) >= 0);
	}
	assert_int_equal(members_join(&m, "more", getpid()), -ENOSPC);
	assert_true(members_join(&m, "c7", 0) >= 0);
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
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_decide),
		cmocka_unit_test(test_pods),
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_handoff),
		cmocka_unit_test(test_members),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
