/* SPDX-License-Identifier: Apache-2.0 */
/* Context-switch records into GPU time: exact where all is well, and never absurd where it is not. */
#include "meter/meter.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"

#define MS UINT64_C(1000000)
#define AHEAD UINT64_C(777000000000)	/* our clock before the GPU's */

struct stream {
	struct meter *meter;
	uint16_t sequence;
};

static struct meter *new_meter(void **state)
{
	struct meter *m = *state;

	meter_init(m);
	return m;
}

static void give(struct stream *s, uint8_t tag, uint32_t pid, uint64_t time_ns)
{
	struct meter_record r = { .tag = tag, .sequence = s->sequence++, .context = pid * 16, .pid = pid, .time_ns = time_ns };

	meter_record(s->meter, &r, time_ns + AHEAD);
}

static void run(struct stream *s, uint32_t pid, uint64_t from, uint64_t to)
{
	give(s, METER_SIMPLE_START, pid, from);
	give(s, METER_SIMPLE_END, pid, to);
}

/* A look that comes late must not make what is under way shorter, once the clocks were compared. */
static void test_told_clock(void **state)
{
	struct meter *m = new_meter(state);
	struct meter_record r = { .tag = METER_CONTEXT_START, .context = 16, .pid = 1, .time_ns = 1000 * MS };

	meter_assign(m, 1, 0);
	meter_clock(m, 1000 * MS, 1000 * MS + AHEAD);
	meter_record(m, &r, 1009 * MS + AHEAD);
	assert_int_equal(meter_slice_ns(m, 0, 1010 * MS + AHEAD), 10 * MS);
	/* a record from the future: another clock */
	r.tag = METER_SAVE_END;
	r.sequence = 1;
	r.time_ns = 2000 * MS;
	meter_record(m, &r, 1011 * MS + AHEAD);
	assert_int_equal(meter_slice_ns(m, 0, 1012 * MS + AHEAD), 1000 * MS);
	meter_clock(m, 1012 * MS, 1012 * MS + AHEAD);
	r.tag = METER_CONTEXT_START;
	r.sequence = 2;
	r.time_ns = 2010 * MS;
	meter_record(m, &r, 1021 * MS + AHEAD);
	assert_int_equal(meter_slice_ns(m, 0, 1022 * MS + AHEAD), 1001 * MS);
}

/* The bytes as an H200 wrote them (gpu probe fecs.c): header of 8 bytes, then the payload. */
static void test_layout(void **state)
{
	uint8_t b[METER_RECORD_SIZE] = { 0 };
	struct meter_record r;

	b[8] = METER_SIMPLE_END;
	b[10] = 0x34;
	b[11] = 0x12;
	put_u32(b, 12, 0xabcd);
	put_u32(b, 16, 4711);
	b[22] = 1;
	b[23] = 2;
	put_u64(b, 24, UINT64_C(0x1122334455667788));
	r = meter_record_read(b);
	assert_int_equal(r.tag, METER_SIMPLE_END);
	assert_int_equal(r.sequence, 0x1234);
	assert_int_equal(r.context, 0xabcd);
	assert_int_equal(r.pid, 4711);
	assert_int_equal(r.instance, 0x0201);
	assert_true(r.time_ns == UINT64_C(0x1122334455667788));
	(void)state;
}

static void test_sums(void **state)
{
	struct stream s = { .meter = new_meter(state) };
	uint64_t busy[4] = { 0 }, t = 5000 * MS;

	for (uint32_t pid = 1; pid <= 3; pid++)
		assert_int_equal(meter_assign(s.meter, 100 + pid, pid == 3 ? 1 : 0), 0);
	srand(1);
	for (int i = 0; i < 100000; i++) {
		uint32_t pid = 1 + (uint32_t)rand() % 3;
		uint64_t ns = 1000 + (uint64_t)rand() % (2 * MS);

		run(&s, 100 + pid, t, t + ns);
		busy[pid] += ns;
		t += ns + 84000;
	}
	assert_true(meter_slice_ns(s.meter, 0, t + AHEAD) == busy[1] + busy[2]);
	assert_true(meter_slice_ns(s.meter, 1, t + AHEAD) == busy[3]);
	assert_true(meter_pid_ns(s.meter, 102, t + AHEAD) == busy[2]);
	assert_int_equal(s.meter->lost, 0);
	assert_int_equal(s.meter->odd, 0);
}

static void test_under_way(void **state)
{
	struct stream s = { .meter = new_meter(state) };

	meter_assign(s.meter, 7, 5);
	assert_false(meter_has_seen(s.meter, 5));
	give(&s, METER_SIMPLE_START, 7, 1000 * MS);
	assert_true(meter_has_seen(s.meter, 5));
	assert_int_equal(meter_slice_ns(s.meter, 5, 1000 * MS + AHEAD), 0);
	assert_int_equal(meter_slice_ns(s.meter, 5, 1030 * MS + AHEAD), 30 * MS);
	assert_int_equal(meter_stay_ns(s.meter, 5, 1030 * MS + AHEAD), 30 * MS);
	assert_int_equal(meter_slice_ns(s.meter, 5, 990 * MS + AHEAD), 0);
	give(&s, METER_SIMPLE_END, 7, 1040 * MS);
	assert_int_equal(meter_slice_ns(s.meter, 5, 2000 * MS + AHEAD), 40 * MS);
	assert_int_equal(meter_slice_ns(s.meter, METER_SLICES, 0), 0);
}

static void test_assign_later(void **state)
{
	struct stream s = { .meter = new_meter(state) };

	run(&s, 7, 1000 * MS, 1010 * MS);
	assert_int_equal(meter_assign(s.meter, 7, 2), 0);
	assert_int_equal(meter_slice_ns(s.meter, 2, 0), 10 * MS);
	/* the number goes to another slice's process: what was, stays */
	assert_int_equal(meter_assign(s.meter, 7, 3), 0);
	run(&s, 7, 1010 * MS, 1013 * MS);
	assert_int_equal(meter_slice_ns(s.meter, 2, 0), 10 * MS);
	assert_int_equal(meter_slice_ns(s.meter, 3, 0), 3 * MS);
	assert_int_equal(meter_assign(s.meter, 7, METER_SLICES), -EINVAL);
	assert_int_equal(meter_assign(s.meter, 0, 1), -ENOSPC);
}

static void test_lost(void **state)
{
	struct stream s = { .meter = new_meter(state) };

	meter_assign(s.meter, 1, 0);
	meter_assign(s.meter, 2, 1);
	/* the end of one is lost: it left when the next came */
	give(&s, METER_SIMPLE_START, 1, 1000 * MS);
	s.sequence++;
	give(&s, METER_SIMPLE_START, 2, 1010 * MS);
	give(&s, METER_SIMPLE_END, 2, 1015 * MS);
	assert_int_equal(s.meter->lost, 1);
	assert_int_equal(meter_slice_ns(s.meter, 0, 0), 10 * MS);
	assert_int_equal(meter_slice_ns(s.meter, 1, 0), 5 * MS);
	/* end and start are lost: nothing is guessed */
	give(&s, METER_SIMPLE_START, 1, 1020 * MS);
	s.sequence = (uint16_t)(s.sequence + 2);
	give(&s, METER_SIMPLE_END, 2, 1040 * MS);
	assert_int_equal(s.meter->lost, 3);
	assert_int_equal(s.meter->odd, 1);
	assert_int_equal(meter_slice_ns(s.meter, 0, 5000 * MS + AHEAD), 10 * MS);
	assert_int_equal(meter_slice_ns(s.meter, 1, 5000 * MS + AHEAD), 5 * MS);
	meter_dropped(s.meter, 10);
	assert_int_equal(s.meter->lost, 13);
}

static void test_clock(void **state)
{
	struct stream s = { .meter = new_meter(state) };

	meter_assign(s.meter, 1, 0);
	/* the sequence wraps */
	s.sequence = 65530;
	for (uint64_t i = 0; i < 10; i++)
		run(&s, 1, UINT64_C(90000) * MS + i * MS, UINT64_C(90000) * MS + i * MS + 500000);
	assert_int_equal(s.meter->lost, 0);
	assert_int_equal(meter_slice_ns(s.meter, 0, 0), 5 * MS);
	/* the GPU is reset in the middle of an interval, its clock begins anew */
	give(&s, METER_SIMPLE_START, 1, UINT64_C(90100) * MS);
	run(&s, 1, 10 * MS, 13 * MS);
	assert_int_equal(s.meter->odd, 1);
	assert_int_equal(meter_slice_ns(s.meter, 0, 13 * MS + AHEAD), 8 * MS);
	give(&s, METER_SIMPLE_START, 1, 20 * MS);
	assert_int_equal(meter_slice_ns(s.meter, 0, 22 * MS + AHEAD), 10 * MS);
	give(&s, METER_ENGINE_RESET, 0, 23 * MS);
	assert_int_equal(meter_slice_ns(s.meter, 0, 500 * MS + AHEAD), 11 * MS);
	give(&s, METER_INVALID_TIMESTAMP, 1, 1);
	assert_int_equal(s.meter->odd, 2);
}

/* 100 ppm between the clocks: after an hour an interval under way is still right to a millisecond. */
static void test_drift(void **state)
{
	struct stream s = { .meter = new_meter(state) };
	uint64_t gpu = 0, now = AHEAD;
	struct meter_record r = { .pid = 1, .context = 1 };

	meter_assign(s.meter, 1, 0);
	for (int i = 0; i < 3600 * 10; i++) {
		r.tag = i % 2 ? METER_SIMPLE_END : METER_SIMPLE_START;
		r.sequence = s.sequence++;
		r.time_ns = gpu;
		meter_record(s.meter, &r, now + (uint64_t)(i % 7) * 20000);
		gpu += 100 * MS;
		now += 100 * MS + 10000;
	}
	r.tag = METER_SIMPLE_START;
	r.sequence = s.sequence++;
	r.time_ns = gpu;
	meter_record(s.meter, &r, now);
	assert_in_range(meter_slice_ns(s.meter, 0, now + 50 * MS) - meter_slice_ns(s.meter, 0, now), 49 * MS, 51 * MS);
	assert_in_range(meter_slice_ns(s.meter, 0, now) - s.meter->slice_ns[0], 0, 3 * MS);
}

static void test_hidden(void **state)
{
	struct stream s = { .meter = new_meter(state) };

	meter_assign(s.meter, 1, 0);
	run(&s, 1, 1000 * MS, 1001 * MS);
	run(&s, 0, 1001 * MS, 1004 * MS);
	run(&s, UINT32_MAX, 1004 * MS, 1009 * MS);
	/* a noisy time of somebody else, before our end */
	give(&s, METER_SIMPLE_START, 1, 1010 * MS);
	give(&s, METER_SIMPLE_START, 0, 1009 * MS);
	give(&s, METER_SIMPLE_END, 0, 1012 * MS);
	assert_int_equal(s.meter->others_ns, 11 * MS);
	assert_int_equal(meter_slice_ns(s.meter, 0, 0), 1 * MS);
	assert_int_equal(s.meter->odd, 1);
}

static void test_full(void **state)
{
	struct stream s = { .meter = new_meter(state) };
	uint64_t t = 1000 * MS;

	for (uint32_t pid = 1; pid < METER_PIDS; pid++)
		assert_int_equal(meter_assign(s.meter, pid, 1), 0);
	/* many short-lived processes of nobody's take each other's place */
	for (uint32_t pid = 10000; pid < 12000; pid++, t += 2 * MS)
		run(&s, pid, t, t + MS);
	assert_int_equal(s.meter->others_ns, 1999 * MS);
	assert_int_equal(meter_assign(s.meter, 20000, 2), 0);
	assert_int_equal(meter_assign(s.meter, 20001, 2), -ENOSPC);
	run(&s, 3, t, t + MS);
	assert_int_equal(meter_slice_ns(s.meter, 1, 0), MS);
}

static void test_mig(void **state)
{
	struct meter *m = new_meter(state);
	struct meter_record r = { .tag = METER_SIMPLE_START, .pid = 1, .context = 1, .time_ns = 1000 * MS };

	meter_assign(m, 1, 0);
	meter_assign(m, 2, 1);
	meter_record(m, &r, AHEAD);
	r = (struct meter_record){ .tag = METER_SIMPLE_START, .pid = 2, .context = 2, .instance = 2, .sequence = 1,
				   .time_ns = 1001 * MS };
	meter_record(m, &r, AHEAD);
	r = (struct meter_record){ .tag = METER_SIMPLE_END, .pid = 1, .context = 1, .sequence = 2, .time_ns = 1005 * MS };
	meter_record(m, &r, AHEAD);
	assert_int_equal(m->slice_ns[0], 5 * MS);
	assert_int_equal(m->odd, 0);
}

/* No stream of bytes makes anyone busier than time went by. */
static void test_garbage(void **state)
{
	struct meter *m = new_meter(state);
	uint64_t t = 1, sum = 0;

	srand(3);
	for (int i = 0; i < 300000; i++) {
		struct meter_record r = {
			.tag = (uint8_t)(rand() % 4 ? 5 + rand() % 3 : rand()),
			.sequence = (uint16_t)rand(),
			.pid = (uint32_t)(rand() % 900),
			.context = (uint32_t)(rand() % 5),
			.instance = (uint16_t)(rand() % 20),
			.time_ns = t += (uint64_t)(rand() % 1000),
		};

		meter_record(m, &r, t + AHEAD);
		if (rand() % 50 == 0)
			meter_assign(m, (uint32_t)(rand() % 900), rand() % (METER_SLICES + 1) - 1);
	}
	for (uint32_t i = 0; i < METER_SLICES; i++)
		sum += meter_slice_ns(m, i, t + AHEAD);
	assert_true(sum <= METER_ENGINES * t);
	assert_true(m->pid_count <= METER_PIDS);
}

/* A context that has no work stays; the driver's samples say so. */
static void test_load(void **state)
{
	struct meter *m = new_meter(state);
	struct stream s = { .meter = m };

	meter_assign(m, 1, 0);
	meter_assign(m, 2, 1);
	/* another is there for 50 of the sample's 200 ms; of 60 % the rest is ours */
	run(&s, 2, 500 * MS, 1050 * MS);
	give(&s, METER_SIMPLE_START, 1, 1050 * MS);
	assert_int_equal(meter_longest_stay_ns(m, 1250 * MS + AHEAD), 200 * MS);
	/* the first sample may take back what is over 0.1 s */
	assert_int_equal(meter_unproved_ns(m, 0, 1250 * MS + AHEAD), 0);
	m->expects_loads = true;
	assert_int_equal(meter_unproved_ns(m, 0, 1150 * MS + AHEAD), 0);
	assert_int_equal(meter_unproved_ns(m, 0, 1250 * MS + AHEAD), 100 * MS);
	assert_int_equal(meter_unproved_ns(m, 1, 1250 * MS + AHEAD), 0);
	assert_int_equal(meter_unproved_ns(m, 0, 2100 * MS + AHEAD), 0);	/* none comes */
	meter_load(m, 6000, 1000 * MS, 1200 * MS);
	assert_false(meter_is_idle(m, 0));
	assert_int_equal(meter_slice_ns(m, 0, 1200 * MS + AHEAD), 70 * MS);
	assert_int_equal(meter_slice_ns(m, 0, 1300 * MS + AHEAD), 130 * MS);
	assert_int_equal(meter_unproved_ns(m, 0, 1400 * MS + AHEAD), 0);
	assert_int_equal(meter_there_ns(m, 0, 1300 * MS + AHEAD), 250 * MS);
	/* what was missed between samples counts as before */
	meter_load(m, 9900, 1300 * MS, 1500 * MS);
	assert_int_equal(meter_slice_ns(m, 0, 1500 * MS + AHEAD), 330 * MS);
	assert_int_equal(meter_slice_ns(m, 0, 1600 * MS + AHEAD), 430 * MS);
	meter_load(m, 2500, 1500 * MS, 1700 * MS);
	assert_int_equal(meter_slice_ns(m, 0, 1700 * MS + AHEAD), 380 * MS);
	meter_load(m, 0, 1700 * MS, 1900 * MS);
	assert_true(meter_is_idle(m, 0));
	assert_false(meter_is_idle(m, 1));
	assert_int_equal(meter_slice_ns(m, 0, 9000 * MS + AHEAD), 380 * MS);
	/* without samples it counts again */
	meter_no_load(m, 8900 * MS + AHEAD);
	assert_false(meter_is_idle(m, 0));
	assert_int_equal(meter_slice_ns(m, 0, 8950 * MS + AHEAD), 430 * MS);
	meter_load(m, 0, 8900 * MS, 9000 * MS);
	assert_int_equal(meter_there_ns(m, 0, 9000 * MS + AHEAD), 7950 * MS);
	give(&s, METER_SIMPLE_END, 1, 9000 * MS);
	/* and counts in full when it comes again; old samples change nothing */
	run(&s, 1, 9001 * MS, 9011 * MS);
	meter_load(m, 0, 8800 * MS, 9000 * MS);
	give(&s, METER_SIMPLE_START, 1, 9020 * MS);
	meter_load(m, 0, 8800 * MS, 9000 * MS);
	assert_int_equal(meter_slice_ns(m, 0, 9030 * MS + AHEAD), 400 * MS);
	assert_int_equal(meter_slice_ns(m, 1, 9030 * MS + AHEAD), 550 * MS);
}

/* Thousands of processes, one after the other: the dead make room, and what they used stays the slice's. */
static void test_many(void **state)
{
	struct meter *m = new_meter(state);
	struct stream s = { .meter = m };

	for (uint32_t i = 1; i <= 3 * METER_PIDS; i++) {
		meter_doubt(m);
		assert_int_equal(meter_assign(m, i, 0), 0);
		meter_forget(m);
		run(&s, i, i * 10 * MS, i * 10 * MS + MS);
	}
	assert_int_equal(meter_slice_ns(m, 0, 4 * METER_PIDS * 10 * MS), 3 * METER_PIDS * MS);
	/* the same number again is another process */
	meter_doubt(m);
	meter_forget(m);
	assert_int_equal(meter_assign(m, 3 * METER_PIDS, 1), 0);
	assert_int_equal(meter_slice_ns(m, 1, 4 * METER_PIDS * 10 * MS), 0);
}

/* What it takes to stop is no work. */
static void test_saving(void **state)
{
	struct meter *m = new_meter(state);
	struct stream s = { .meter = m };

	m->saving_ns = METER_SAVING_NS;
	meter_assign(m, 1, 0);
	run(&s, 1, 1000 * MS, 1010 * MS);
	assert_int_equal(meter_slice_ns(m, 0, 1010 * MS + AHEAD), 10 * MS - METER_SAVING_NS);
	run(&s, 1, 1020 * MS, 1020 * MS + 160000);
	assert_int_equal(meter_slice_ns(m, 0, 1030 * MS + AHEAD), 10 * MS - METER_SAVING_NS + 150000);
}

static void test_samples(void **state)
{
	struct meter *m = new_meter(state);

	meter_assign(m, 9, 4);
	meter_sample(m, 9, 5000, 100 * MS);
	meter_sample(m, 9, 20000, 10 * MS);
	meter_sample(m, UINT32_MAX, 5000, 100 * MS);
	assert_int_equal(meter_slice_ns(m, 4, 0), 60 * MS);
}

int main(void)
{
	struct CMUnitTest tests[] = {
		cmocka_unit_test(test_told_clock),
		cmocka_unit_test(test_layout),	   cmocka_unit_test(test_sums),	  cmocka_unit_test(test_under_way),
		cmocka_unit_test(test_assign_later), cmocka_unit_test(test_lost),	  cmocka_unit_test(test_clock),
		cmocka_unit_test(test_drift),	   cmocka_unit_test(test_hidden), cmocka_unit_test(test_full),
		cmocka_unit_test(test_mig),	   cmocka_unit_test(test_garbage), cmocka_unit_test(test_load),
		cmocka_unit_test(test_saving),
		cmocka_unit_test(test_many), cmocka_unit_test(test_samples),
	};
	struct meter *meter = calloc(1, sizeof(*meter));
	int failed;

	if (!meter)
		return 99;
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tests[i].initial_state = meter;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(meter);
	return failed;
}
