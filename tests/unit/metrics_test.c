/* SPDX-License-Identifier: Apache-2.0 */
/* What fracgpud makes of ledgers: Prometheus' text, JSON, history; also of ledgers and names that mean harm.
 * What needs a server or a slice is in tests/metrics. */
#include "daemon/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/history.h"
#include "daemon/state.h"

#define SECOND UINT64_C(1000000000)

static struct figures *figures;
static struct history *history;
static struct ledger *ledger;

static int setup(void **state)
{
	figures = calloc(1, sizeof(*figures));
	history = calloc(1, sizeof(*history));
	ledger = calloc(1, sizeof(*ledger));
	return figures && history && ledger ? 0 : -1;
}

static int teardown(void **state)
{
	free(figures);
	free(history);
	free(ledger);
	return 0;
}

static struct figures_slice *add_slice(const char *name)
{
	struct figures_slice *s = &figures->slices[figures->slice_count++];

	memset(s, 0, sizeof(*s));
	snprintf(s->name, sizeof(s->name), "%s", name);
	snprintf(s->door, sizeof(s->door), "container");
	s->gpu_count = 1;
	s->gpus[0] = (struct figures_gpu){ .index = 3,
					   .uuid = "GPU-x",
					   .limit_bytes = 8 << 20,
					   .used_bytes = 2 << 20,
					   .busy_permille = FIGURES_UNKNOWN,
					   .throttled_permille = FIGURES_UNKNOWN };
	return s;
}

static void add_card(void)
{
	figures->cards[figures->card_count++] = (struct figures_card){ .index = 3,
								       .uuid = "GPU-x",
								       .model = "NVIDIA H200",
								       .total_bytes = 64 << 20,
								       .busy_permille = FIGURES_UNKNOWN };
}

static void has_line(enum prometheus_names names, const char *line)
{
	char *text, whole[1024];
	size_t size;

	assert_int_equal(prometheus_write(figures, names, "node", &text, &size), 0);
	assert_int_equal(strlen(text), size);
	snprintf(whole, sizeof(whole), "\n%s\n", line);
	if (!strstr(text, whole))
		fail_msg("no line '%s' in:\n%s", line, text);
	free(text);
}

static void has_not(enum prometheus_names names, const char *part)
{
	char *text;
	size_t size;

	assert_int_equal(prometheus_write(figures, names, "node", &text, &size), 0);
	if (strstr(text, part))
		fail_msg("'%s' is in:\n%s", part, text);
	free(text);
}

static void test_text(void **state)
{
	struct figures_slice *s = add_slice("box");

	add_card();
	figures_add_up(figures);
	s->gpus[0].throttled_ns = 61 * SECOND + 5;
	s->gpus[0].refusals = UINT64_MAX;
	s->cap_permille = 125;
	s->events[LEDGER_REFUSED_CALL] = 7;
	has_line(PROMETHEUS_OURS,
		 "fracgpu_slice_memory_used_bytes{slice=\"box\",gpu=\"3\",uuid=\"GPU-x\"} 2097152");
	has_line(PROMETHEUS_OURS,
		 "fracgpu_slice_memory_refusals_total{slice=\"box\",gpu=\"3\",uuid=\"GPU-x\"} "
		 "18446744073709551615");
	has_line(
		PROMETHEUS_OURS,
		"fracgpu_slice_throttled_seconds_total{slice=\"box\",gpu=\"3\",uuid=\"GPU-x\"} 61.000000005");
	has_line(PROMETHEUS_OURS, "fracgpu_slice_compute_limit_ratio{slice=\"box\"} 0.125");
	has_line(PROMETHEUS_OURS, "fracgpu_slice_events_total{slice=\"box\",event=\"refused_call\"} 7");
	has_line(PROMETHEUS_OURS,
		 "fracgpu_gpu_memory_given_bytes{gpu=\"3\",uuid=\"GPU-x\",model=\"NVIDIA H200\"} 8388608");
	has_line(PROMETHEUS_OURS, "# TYPE fracgpu_slice_gpu_seconds_total counter");
	has_not(PROMETHEUS_OURS, "fracgpu_slice_gpu_seconds_total{");
	has_not(PROMETHEUS_OURS, "hami");
	s->gpus[0].is_measured = true;
	has_line(PROMETHEUS_OURS,
		 "fracgpu_slice_gpu_seconds_total{slice=\"box\",gpu=\"3\",uuid=\"GPU-x\"} 0.000000000");
}

static void test_hami(void **state)
{
	struct figures_slice *s = add_slice("0123456789ab");

	add_card();
	snprintf(s->container, sizeof(s->container), "main");
	snprintf(s->pod, sizeof(s->pod), "train");
	snprintf(s->pod_namespace, sizeof(s->pod_namespace), "lab");
	s->gpus[0].busy_permille = 505;
	*add_slice("twin") = *s;
	add_slice("bare");
	figures_add_up(figures);
	has_line(PROMETHEUS_HAMI,
		 "hami_vgpu_memory_limit_bytes{zone=\"vGPU\",namespace=\"lab\",pod=\"train\","
		 "container=\"main\",vdevice_index=\"0\",device_uuid=\"GPU-x\"} 8388608");
	has_line(PROMETHEUS_HAMI,
		 "hami_container_device_utilization_ratio{zone=\"vGPU\",namespace=\"lab\",pod=\"train\","
		 "container=\"main\",vdevice_index=\"0\",device_uuid=\"GPU-x\"} 50.5");
	has_line(PROMETHEUS_HAMI,
		 "hami_vgpu_memory_used_bytes{zone=\"vGPU\",container=\"bare\",vdevice_index=\"0\","
		 "device_uuid=\"GPU-x\"} 2097152");
	has_line(PROMETHEUS_HAMI,
		 "hami_host_gpu_memory_used_bytes{zone=\"vGPU\",node=\"node\",device_index=\"3\","
		 "device_uuid=\"GPU-x\",device_type=\"NVIDIA-NVIDIA H200\"} 6291456");
	has_not(PROMETHEUS_HAMI, "vGPU_device");
	has_line(PROMETHEUS_HAMI_LEGACY,
		 "vGPU_device_memory_usage_in_bytes{zone=\"vGPU\",podnamespace=\"lab\",podname=\"train\","
		 "ctrname=\"main\",vdeviceid=\"0\",deviceuuid=\"GPU-x\"} 2097152");
	/* two that say to be the same are one series, or the whole answer is worth nothing */
	assert_false(figures->slices[0].is_twin);
	assert_true(figures->slices[1].is_twin);
	assert_false(figures->slices[2].is_twin);
}

static void take(struct figures_slice *s, json_t *identity)
{
	memset(s, 0, sizeof(*s));
	figures_take_identity(s, identity);
	json_decref(identity);
}

static void test_names(void **state)
{
	struct figures_slice *s = add_slice("box");
	char name[4 * FIGURES_NAME];

	take(s, json_pack("{s:s,s:i,s:{s:s,s:s,s:s}}", "id", "abc", "uid", 0, "annotations",
			  "io.kubernetes.cri.container-name", "a\"b\\c\nq\x1b[1m\x7f",
			  "io.kubernetes.cri.sandbox-name", "pod", "io.kubernetes.cri.sandbox-namespace",
			  "<b>ns</b>"));
	snprintf(s->name, sizeof(s->name), "box");
	has_line(PROMETHEUS_OURS,
		 "fracgpu_slice_paused{slice=\"box\",container=\"a\\\"b\\\\c\\nq?[1m?\",pod=\"pod\","
		 "namespace=\"<b>ns</b>\"} 0");

	take(s, json_pack("{s:s,s:i,s:{s:s,s:s,s:s}}", "id", "abc", "uid", 0, "annotations",
			  "io.kubernetes.container.name", "c", "io.kubernetes.pod.name", "p",
			  "io.kubernetes.pod.namespace", "n"));
	assert_string_equal(s->container, "c");
	assert_string_equal(s->pod, "p");
	assert_string_equal(s->pod_namespace, "n");

	/* the author of a pod can write the other engine's names: then nobody's count */
	take(s, json_pack("{s:s,s:i,s:{s:s,s:s,s:s}}", "id", "abc", "uid", 0, "annotations",
			  "io.kubernetes.cri.sandbox-name", "mine", "io.kubernetes.container.name", "c",
			  "io.kubernetes.pod.name", "p"));
	assert_string_equal(s->container, "abc");
	assert_string_equal(s->pod, "");

	/* another user's names could be somebody else's; no user said: nobody's */
	take(s, json_pack("{s:s,s:i,s:{s:s}}", "id", "abc", "uid", 1000, "annotations",
			  "io.kubernetes.pod.name", "p"));
	assert_string_equal(s->container, "abc");
	assert_string_equal(s->pod, "");
	take(s, json_pack("{s:s,s:{s:s}}", "id", "abc", "annotations", "io.kubernetes.pod.name", "p"));
	assert_string_equal(s->pod, "");

	/* a slice that containers join is none of them */
	take(s, json_pack("{s:s,s:i,s:b}", "id", "abc", "uid", 0, "standing", 1));
	assert_string_equal(s->container, "");

	/* what is of another type, or not there */
	take(s, json_pack("{s:i,s:i,s:[s]}", "id", 1, "uid", 0, "annotations", "x"));
	assert_string_equal(s->container, "");
	take(s, json_pack("[s]", "x"));
	assert_string_equal(s->container, "");

	/* cut between characters, not in one */
	for (size_t i = 0; i + 2 < sizeof(name); i += 2)
		memcpy(name + i, "\xc3\xa4", 3);
	memmove(name + 1, name, sizeof(name) - 1);
	name[0] = 'x';
	name[sizeof(name) - 1] = '\0';
	name[FIGURES_NAME + 99] = '\0';
	take(s, json_pack("{s:s,s:i,s:{s:s}}", "id", "abc", "uid", 0, "annotations", "nerdctl/name", name));
	assert_int_equal(strlen(s->container), FIGURES_NAME - 1);
	memset(name, 0, sizeof(name));
	for (size_t i = 0; i < FIGURES_NAME + 100; i += 2)
		memcpy(name + i, "\xc3\xa4", 2);
	take(s, json_pack("{s:s,s:i,s:{s:s}}", "id", "abc", "uid", 0, "annotations", "nerdctl/name", name));
	assert_int_equal(strlen(s->container), FIGURES_NAME - 2);
}

/* A ledger that a tenant of the preload door has written to. */
static void test_hostile_ledger(void **state)
{
	struct figures_slice *s = add_slice("box");

	s->gpu_count = 0;
	memset(ledger->name, 'n', sizeof(ledger->name));
	memset(ledger->door, '"', sizeof(ledger->door));
	memset(ledger->driver, '\xff', sizeof(ledger->driver));
	ledger->account.gpu_count = 4000000000U;
	for (int i = 0; i < ACCOUNT_GPUS; i++) {
		memset(ledger->gpus[i].uuid, i < 8 ? '\n' : 'a' + i, sizeof(ledger->gpus[i].uuid));
		ledger->gpus[i].index = i < 12 ? (uint32_t)i : 0;
		ledger->account.limit_bytes[i] = UINT64_MAX;
	}
	figures_take_ledger(s, ledger);
	assert_int_equal(s->gpu_count, 5);
	assert_string_equal(s->gpus[0].uuid, "???????????????????????????????????????????????");
	add_card();
	figures_add_up(figures);
	assert_int_equal(figures->cards[0].slices, 0);
	has_line(PROMETHEUS_OURS, "fracgpu_slice_info{slice=\"box\",door="
				  "\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\","
				  "driver=\"???????????????????????????????\"} 1");
}

static void read_again(uint64_t busy_ns, bool is_measured, uint64_t throttled_ns)
{
	figures->slices[0].gpus[0].busy_ns = busy_ns;
	figures->slices[0].gpus[0].is_measured = is_measured;
	figures->slices[0].gpus[0].throttled_ns = throttled_ns;
	figures_add_up(figures);
	history_follow(history, figures);
}

static void test_counters(void **state)
{
	const struct figures_gpu *gpu = &add_slice("box")->gpus[0];

	history_init(history, 15);
	add_card();
	read_again(0, false, 10);
	assert_false(gpu->is_measured);
	read_again(100, true, 20);
	assert_int_equal(gpu->busy_ns, 100);
	read_again(40, true, 5); /* the gates were not needed for a while: they count anew */
	assert_int_equal(gpu->busy_ns, 140);
	assert_int_equal(gpu->throttled_ns, 25);
	read_again(0, false, 6);
	assert_true(gpu->is_measured);
	assert_int_equal(gpu->busy_ns, 140);
	read_again(60, true, 6);
	assert_int_equal(gpu->busy_ns, 160);
	assert_int_equal(gpu->throttled_ns, 26);
	figures->slices[0].serial = 1; /* another slice of that name */
	read_again(3, true, 4);
	assert_int_equal(gpu->busy_ns, 3);
	assert_int_equal(gpu->throttled_ns, 4);
}

static void test_shares(void **state)
{
	const struct figures_gpu *gpu = &add_slice("box")->gpus[0];

	history_init(history, 10);
	add_card();
	assert_int_equal(history_due_ns(history), 0);
	read_again(5 * SECOND, true, 0);
	history_sample(history, figures, 100 * SECOND);
	assert_int_equal(gpu->busy_permille, FIGURES_UNKNOWN);
	assert_int_equal(figures->cards[0].busy_permille, FIGURES_UNKNOWN);
	assert_int_equal(history_due_ns(history), 110 * SECOND);
	read_again(10 * SECOND, true, 2 * SECOND);
	history_sample(history, figures, 110 * SECOND);
	assert_int_equal(gpu->busy_permille, 500);
	assert_int_equal(gpu->throttled_permille, 200);
	assert_int_equal(figures->cards[0].busy_permille, 500);
	read_again(90 * SECOND, true, 2 * SECOND);
	assert_int_equal(gpu->busy_permille, 500); /* until the next step */
	history_sample(history, figures, 120 * SECOND);
	assert_int_equal(gpu->busy_permille, 1000);
	assert_int_equal(gpu->throttled_permille, 0);
}

static void test_hour(void **state)
{
	const struct history_track *t;
	struct figures_slice *s = add_slice("box");

	history_init(history, 15);
	for (uint64_t i = 1; i <= 1000; i++) {
		s->gpus[0].used_bytes = i << 20;
		read_again(0, false, 0);
		history_sample(history, figures, i * 15 * SECOND);
	}
	t = history_find(history, s, "GPU-x");
	assert_non_null(t);
	assert_int_equal(history_count(history, t), HISTORY_POINTS);
	assert_int_equal(history_point(history, t, 0)->used_mib, 1000 - HISTORY_POINTS + 1);
	assert_int_equal(history_point(history, t, HISTORY_POINTS - 1)->used_mib, 1000);
	assert_int_equal(history_point(history, t, HISTORY_POINTS - 1)->limit_mib, 8);

	/* the host slept for three steps */
	read_again(0, false, 0);
	history_sample(history, figures, 1004 * 15 * SECOND);
	assert_int_equal(history_point(history, t, HISTORY_POINTS - 1)->used_mib, 1000);
	for (uint32_t i = 2; i <= 4; i++)
		assert_false(history_point(history, t, HISTORY_POINTS - i)->is_there);
	assert_true(history_point(history, t, HISTORY_POINTS - 5)->is_there);

	/* and for a year */
	history_sample(history, figures, UINT64_C(365) * 24 * 3600 * SECOND);
	assert_int_equal(history_count(history, t), HISTORY_POINTS);
	assert_false(history_point(history, t, 0)->is_there);
	assert_true(history_point(history, t, HISTORY_POINTS - 1)->is_there);

	/* gone with its slice */
	figures->slice_count = 0;
	history_follow(history, figures);
	assert_null(history_find(history, s, "GPU-x"));
}

/* More GPUs of slices than there are tracks: those that found none are shown without history. */
static void test_full(void **state)
{
	char name[16];

	history_init(history, 15);
	for (int i = 0; i < FIGURES_SLICES; i++) {
		struct figures_slice *s;

		snprintf(name, sizeof(name), "s%03d", i);
		s = add_slice(name);
		s->gpu_count = 2;
		s->gpus[1] = s->gpus[0];
		snprintf(s->gpus[1].uuid, sizeof(s->gpus[1].uuid), "GPU-y");
		s->gpus[1].throttled_ns = 7;
	}
	history_follow(history, figures);
	history_sample(history, figures, SECOND);
	assert_non_null(history_find(history, &figures->slices[0], "GPU-y"));
	assert_null(history_find(history, &figures->slices[FIGURES_SLICES - 1], "GPU-y"));
	assert_int_equal(figures->slices[FIGURES_SLICES - 1].gpus[1].throttled_ns, 7);
	has_line(PROMETHEUS_OURS, "fracgpu_slice_paused{slice=\"s511\"} 0");
	json_decref(state_json(figures, history, "host", 0));
}

static void test_state(void **state)
{
	struct figures_slice *s = add_slice("box");
	const json_t *slice, *gpu;
	json_t *all;

	history_init(history, 15);
	add_card();
	snprintf(s->container, sizeof(s->container), "</script><img src=x>\n\xe2\x80\xae");
	s->gpus[0].refusals = INT64_MAX;
	read_again(0, false, 0);
	history_sample(history, figures, SECOND);
	read_again(0, false, 3 * SECOND);
	history_sample(history, figures, 16 * SECOND);
	all = state_json(figures, history, "host", 1000);
	assert_non_null(all);
	slice = json_array_get(json_object_get(all, "slices"), 0);
	gpu = json_array_get(json_object_get(slice, "gpus"), 0);
	assert_string_equal(json_string_value(json_object_get(slice, "container")), s->container);
	assert_string_equal(json_string_value(json_object_get(slice, "waits")), "throttled");
	assert_true(json_integer_value(json_object_get(gpu, "refusals")) == INT64_MAX);
	assert_true(json_is_null(json_object_get(gpu, "busy_ns")));
	assert_int_equal(json_integer_value(json_object_get(gpu, "throttled_permille")), 200);
	assert_int_equal(json_array_size(json_object_get(json_object_get(gpu, "history"), "used_mib")), 2);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(all, "cards"), 0),
							    "given_bytes")),
			 8 << 20);
	json_decref(all);
	s->is_paused = true;
	all = state_json(figures, history, "host", 1000);
	slice = json_array_get(json_object_get(all, "slices"), 0);
	assert_string_equal(json_string_value(json_object_get(slice, "waits")), "paused");
	json_decref(all);
}

static void test_addresses(void **state)
{
	static const struct {
		const char *text;
		int result;
		bool is_local;
	} cases[] = {
		{ "9401", 0, true },
		{ ":9401", 0, true },
		{ "127.0.0.1:9401", 0, true },
		{ "127.9.9.9:0", 0, true },
		{ "[::1]:9401", 0, true },
		{ "[::]:9401", 0, false },
		{ "0.0.0.0:65535", 0, false },
		{ "10.0.0.1:80", 0, false },
		{ "", -EINVAL, false },
		{ "65536", -EINVAL, false },
		{ "127.0.0.1", -EINVAL, false },
		{ "127.0.0.1:", -EINVAL, false },
		{ "::1:9401", -EINVAL, false },
		{ "example.org:80", -EINVAL, false },
		{ "127.0.0.1:-1", -EINVAL, false },
		{ "[127.0.0.1:80", -EINVAL, false },
		{ "1.2.3.4:80x", -EINVAL, false },
		{ "[]:80", -EINVAL, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sockaddr_storage address;
		socklen_t size;
		int r = metrics_address_parse(cases[i].text, &address, &size, NULL);

		if (r != cases[i].result || (r == 0 && metrics_is_local(&address) != cases[i].is_local))
			fail_msg("'%s': %d", cases[i].text, r);
	}
}

static void test_hosts(void **state)
{
	static const struct {
		const char *text;
		bool is_local;
	} cases[] = {
		{ "127.0.0.1:9401", true },  { "127.0.0.1", true },
		{ "localhost", true },	     { "LocalHost:1", true },
		{ "[::1]:9401", true },	     { "[::1]", true },
		{ "evil.example", false },   { "127.0.0.1.evil.example:80", false },
		{ "localhost.evil", false }, { "", false },
		{ "10.0.0.1:9401", false },  { "localhost:1@evil", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (metrics_host_is_local(cases[i].text) != cases[i].is_local)
			fail_msg("'%s' is not %d", cases[i].text, cases[i].is_local);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_text, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hami, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_ledger, setup, teardown),
		cmocka_unit_test_setup_teardown(test_counters, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shares, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hour, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_state, setup, teardown),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
