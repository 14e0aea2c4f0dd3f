/* SPDX-License-Identifier: Apache-2.0 */
/* The arbiter against a model GPU: thousands of random schedules, and what must hold in each of them. */
#include "arbiter/arbiter.h"
#include "arbiter/wants.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)
#define WINDOW_NS (2000 * MS)
#define SAMPLE_NS (10 * MS)
/* H200: a gate opens in 0.3 ms and closes in 0.5 ms, timeslices of 2 ms; a switch takes 84 us, and 125 us more go by in which
 * the one that leaves is still there but does no work */
#define OPEN_NS (300 * MS / 1000)
#define CLOSE_NS (500 * MS / 1000)
#define SWITCH_NS UINT64_C(209000)
#define TIMESLICE_NS (2 * MS)

enum { MODEL_SLICES = 8, MODEL_SAMPLES = 800, WINDOW_SAMPLES = 200 };

struct model_slice {
	bool wants;
	bool gate;		/* as the hardware has it */
	bool asked;		/* as the arbiter wants it */
	uint64_t gate_at;	/* when the hardware follows */
	uint64_t toggle_at;	/* when it begins or ends to want the GPU */
	uint64_t busy;
};

struct sample {
	uint64_t busy[MODEL_SLICES];
	uint64_t switching;
	uint64_t waited;
	uint32_t stayed;	/* wanted the GPU all the time since the last sample */
	uint32_t wanted;	/* at any time */
};

struct model {
	struct arbiter arbiter;
	struct arbiter_settings settings[MODEL_SLICES];
	struct model_slice slices[MODEL_SLICES];
	int count;
	bool measured;
	bool restless;		/* slices begin and end to want the GPU */
	uint64_t now, start;
	int running;		/* -1: none */
	uint64_t ready_at;	/* context switch ends */
	uint64_t timeslice_end;
	uint64_t switching;
	uint64_t waited;	/* for gates to open while nobody could run: nothing can be done about it */
	uint64_t step_at;
	uint64_t away_until;	/* the driver of the gates waits for the hardware */
	uint64_t steps;
	uint32_t stayed, wanted;
	struct sample samples[MODEL_SAMPLES];
	int sample_count;
};

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((random_state >> 33) % n);
}

static bool can_run(const struct model *m, int i)
{
	return m->slices[i].wants && m->slices[i].gate;
}

static int runnable_after(const struct model *m, int last)
{
	for (int n = 1; n <= m->count; n++) {
		int i = (last + n + m->count) % m->count;

		if (can_run(m, i))
			return i;
	}
	return -1;
}

/* The run list: round robin among those that can run. */
static void model_schedule(struct model *m)
{
	int next;

	if (m->running >= 0 && can_run(m, m->running) && m->now < m->timeslice_end)
		return;
	next = runnable_after(m, m->running);
	if (next == m->running || next < 0) {
		if (next < 0)
			m->running = -1;
		m->timeslice_end = m->now + TIMESLICE_NS;
		return;
	}
	m->running = next;
	m->ready_at = m->now + SWITCH_NS;
	m->timeslice_end = m->ready_at + TIMESLICE_NS;
}

static void check_decision(const struct model *m, uint64_t open)
{
	bool realtime = false, normal = false;

	for (int i = 0; i < m->count; i++) {
		const struct arbiter_slice *s = &m->arbiter.slices[i];
		bool may = s->wants && !s->settings.frozen && (!s->period_ns || s->level_ns > 0);

		realtime |= may && s->settings.priority == ARBITER_REALTIME;
		normal |= may && s->settings.priority == ARBITER_NORMAL;
	}
	for (int i = 0; i < m->count; i++) {
		const struct arbiter_slice *s = &m->arbiter.slices[i];
		bool is_open = open >> i & 1;

		if (s->settings.frozen || (s->period_ns && s->level_ns <= 0))
			assert_false(is_open);
		if (!s->wants)
			continue;
		if (s->settings.priority == ARBITER_IDLE && (realtime || normal))
			assert_false(is_open);
		if (s->settings.priority == ARBITER_NORMAL && realtime && m->arbiter.realtime_level_ns > 0)
			assert_false(is_open);
	}
}

/* What the driver of the gates does: asks, opens first with one call, closes then; calls wait for the hardware. */
static void model_arbitrate(struct model *m)
{
	uint64_t open, done = m->now;

	for (int i = 0; i < m->count; i++) {
		arbiter_wants(&m->arbiter, (uint32_t)i, m->slices[i].wants, m->now);
		if (m->measured)
			arbiter_measured(&m->arbiter, (uint32_t)i, m->slices[i].busy, m->now);
	}
	open = arbiter_step(&m->arbiter, m->now, &m->step_at);
	assert_true(m->step_at > m->now);
	check_decision(m, open);
	m->steps++;
	for (int pass = 0; pass < 2; pass++) {
		uint64_t at = done + (pass ? CLOSE_NS : OPEN_NS);

		for (int i = 0; i < m->count; i++) {
			struct model_slice *s = &m->slices[i];
			bool want = open >> i & 1;

			if (want == s->asked || want == (pass == 1))
				continue;
			s->asked = want;
			s->gate_at = done = at;
		}
		if (!pass && done > m->now && runnable_after(m, m->count - 1) < 0)
			m->waited += OPEN_NS;
	}
	m->away_until = done;
	if (m->measured && m->step_at > m->now + 2 * MS)
		m->step_at = m->now + 2 * MS;
	if (m->step_at < done)
		m->step_at = done;
}

static void model_toggle(struct model *m, int i)
{
	struct model_slice *s = &m->slices[i];

	s->wants = !s->wants;
	/* some tenants think long, some never */
	s->toggle_at = m->now + MS / 10 + random_below(i % 2 ? 30000 : 3000000) * UINT64_C(1000);
	if (m->step_at > m->away_until)
		m->step_at = m->away_until > m->now ? m->away_until : m->now;
}

static uint64_t model_next(const struct model *m, uint64_t end)
{
	uint64_t next = end;

	for (int i = 0; i < m->count; i++) {
		const struct model_slice *s = &m->slices[i];

		if (s->asked != s->gate && s->gate_at < next)
			next = s->gate_at;
		if (m->restless && s->toggle_at < next)
			next = s->toggle_at;
	}
	if (m->step_at < next)
		next = m->step_at;
	if (m->running >= 0 && m->now < m->ready_at && m->ready_at < next)
		next = m->ready_at;
	if (m->running >= 0 && runnable_after(m, m->running) != m->running && m->timeslice_end < next)
		next = m->timeslice_end;
	return next < m->now ? m->now : next;
}

static void model_run_to(struct model *m, uint64_t end)
{
	while (m->now < end) {
		uint64_t next = model_next(m, end), ran;

		if (m->running >= 0) {
			ran = m->ready_at > m->now ? m->ready_at - m->now : 0;
			ran = ran > next - m->now ? next - m->now : ran;
			m->switching += ran;
			m->slices[m->running].busy += next - m->now - ran;
		}
		m->now = next;
		for (int i = 0; i < m->count; i++) {
			struct model_slice *s = &m->slices[i];

			if (s->asked != s->gate && s->gate_at <= m->now)
				s->gate = s->asked;
			if (m->restless && s->toggle_at <= m->now)
				model_toggle(m, i);
			if (s->wants)
				m->wanted |= 1u << i;
			else
				m->stayed &= ~(1u << i);
		}
		if (m->step_at <= m->now)
			model_arbitrate(m);
		model_schedule(m);
	}
}

static void model_sample(struct model *m)
{
	struct sample *s = &m->samples[m->sample_count++];

	for (int i = 0; i < m->count; i++)
		s->busy[i] = m->slices[i].busy;
	s->switching = m->switching;
	s->waited = m->waited;
	s->stayed = m->stayed;
	s->wanted = m->wanted;
	m->stayed = m->wanted = 0;
	for (int i = 0; i < m->count; i++)
		m->stayed |= (uint32_t)m->slices[i].wants << i;
	m->wanted = m->stayed;
}

static void model_init(struct model *m, int count, uint64_t latency_ns)
{
	memset(m, 0, sizeof(*m));
	m->count = count;
	m->running = -1;
	m->start = m->now = (uint64_t)random_below(1000000) * 12345;
	arbiter_init(&m->arbiter, latency_ns, m->now);
	for (int i = 0; i < count; i++) {
		m->slices[i].gate = m->slices[i].asked = true;
		m->slices[i].wants = true;
		m->slices[i].toggle_at = m->now + random_below(400) * MS;
		m->settings[i].weight = ARBITER_WEIGHT_DEFAULT;
	}
	m->step_at = m->now;
}

static void model_run(struct model *m, int seconds)
{
	int samples = seconds * 100;

	for (int i = 0; i < m->count; i++)
		assert_int_equal(arbiter_set(&m->arbiter, (uint32_t)i, &m->settings[i], m->now), 0);
	assert_in_range(samples, 1, MODEL_SAMPLES - 1);
	model_sample(m);
	while (samples--) {
		model_run_to(m, m->start + (uint64_t)m->sample_count * SAMPLE_NS);
		model_sample(m);
	}
}

/* ns on the GPU in the window of 2 s that ends with a sample. */
static uint64_t window_busy(const struct model *m, int end, int slice)
{
	return m->samples[end].busy[slice] - m->samples[end - WINDOW_SAMPLES].busy[slice];
}

static uint32_t window_stayed(const struct model *m, int end, uint32_t *ret_wanted)
{
	uint32_t stayed = UINT32_MAX, wanted = 0;

	for (int n = end - WINDOW_SAMPLES + 1; n <= end; n++) {
		stayed &= m->samples[n].stayed;
		wanted |= m->samples[n].wanted;
	}
	*ret_wanted = wanted;
	return stayed;
}

static void check_caps(const struct model *m, uint64_t tolerance_ns)
{
	for (int end = WINDOW_SAMPLES; end < m->sample_count; end++) {
		for (int i = 0; i < m->count; i++) {
			uint64_t cap = m->settings[i].max_permille * (WINDOW_NS / 1000);

			if (cap && window_busy(m, end, i) > cap + tolerance_ns)
				fail_msg("slice %d of %d: cap %u permille, %.2f %% in the 2 s up to %.2f s (%smeasured)", i,
					 m->count, m->settings[i].max_permille,
					 100.0 * (double)window_busy(m, end, i) / (double)WINDOW_NS,
					 (double)end / 100, m->measured ? "" : "not ");
		}
	}
}

static void check_weights(const struct model *m, int first)
{
	for (int end = first + WINDOW_SAMPLES; end < m->sample_count; end++) {
		uint64_t busy = 0, weights = 0;

		for (int i = 0; i < m->count; i++) {
			busy += window_busy(m, end, i);
			weights += m->settings[i].weight;
		}
		for (int i = 0; i < m->count; i++) {
			double got = (double)window_busy(m, end, i) / (double)busy;
			double due = (double)m->settings[i].weight / (double)weights;

			if (got > due + 0.01 || got < due - 0.01)
				fail_msg("slice %d of %d: due %.2f %%, got %.2f %% in the 2 s up to %.2f s", i, m->count,
					 100 * due, 100 * got, (double)end / 100);
		}
	}
}

/* While somebody without a cap wants the GPU all the time, it works or switches all the time. */
static void check_conserving(const struct model *m)
{
	for (int end = WINDOW_SAMPLES; end < m->sample_count; end++) {
		uint32_t wanted, stayed = window_stayed(m, end, &wanted);
		uint64_t busy = m->samples[end].switching - m->samples[end - WINDOW_SAMPLES].switching;
		bool greedy = false;

		busy += m->samples[end].waited - m->samples[end - WINDOW_SAMPLES].waited;
		for (int i = 0; i < m->count; i++) {
			busy += window_busy(m, end, i);
			greedy |= stayed >> i & 1 && !m->settings[i].max_permille && !m->settings[i].frozen;
		}
		if (greedy && busy < WINDOW_NS / 100 * 98)
			fail_msg("the GPU idled: %.2f %% busy in the 2 s up to %.2f s", (double)busy / (double)WINDOW_NS * 100,
				 (double)end / 100);
	}
}

/* A normal slice that wants the GPU all the time gets at least a quarter of its part of the 5 % that realtime leaves. */
static void check_starvation(const struct model *m)
{
	uint64_t weights = 0;

	for (int i = 0; i < m->count; i++)
		weights += m->settings[i].priority == ARBITER_NORMAL ? m->settings[i].weight : 0;
	for (int end = WINDOW_SAMPLES; weights && end < m->sample_count; end++) {
		uint32_t wanted, stayed = window_stayed(m, end, &wanted);

		for (int i = 0; i < m->count; i++) {
			uint64_t due = WINDOW_NS / 20 * m->settings[i].weight / weights / 4;

			if (m->settings[i].priority != ARBITER_NORMAL || m->settings[i].frozen || !(stayed >> i & 1))
				continue;
			/* nor more than its cap, of which runs of 2 ms lose a part */
			if (m->settings[i].max_permille && m->settings[i].max_permille * (WINDOW_NS / 1000) / 4 * 3 < due)
				due = m->settings[i].max_permille * (WINDOW_NS / 1000) / 4 * 3;
			if (due > 20 * MS && window_busy(m, end, i) < due)
				fail_msg("slice %d of %d starves: %llu us in the 2 s up to %.2f s", i, m->count,
					 (unsigned long long)window_busy(m, end, i) / 1000, (double)end / 100);
		}
	}
}

static void test_mixed(void **state)
{
	static struct model m;
	int count;	/* drawn first, whatever order a compiler takes arguments in */

	for (uint64_t seed = 1; seed <= 1200; seed++) {
		random_state = seed;
		count = 1 + (int)random_below(MODEL_SLICES);
		model_init(&m, count, random_below(3) ? (2 + random_below(19)) * MS : 0);
		m.measured = true;
		m.restless = random_below(4) != 0;
		for (int i = 0; i < m.count; i++) {
			struct arbiter_settings *s = &m.settings[i];

			s->max_permille = random_below(2) ? 0 : 1 + random_below(999);
			s->weight = 1 + random_below(random_below(2) ? 10000 : 300);
			s->priority = random_below(3) ? ARBITER_NORMAL : random_below(3);
			s->phase_permille = random_below(1000);
			s->frozen = random_below(10) == 0;
		}
		model_run(&m, 4);
		check_caps(&m, WINDOW_NS / 100);
		check_conserving(&m);
		check_starvation(&m);
		for (int i = 0; i < m.count; i++)
			if (m.settings[i].frozen)
				assert_in_range(m.slices[i].busy, 0, 5 * MS);
		/* however it stands, the end opens everything */
		assert_int_equal(arbiter_done(&m.arbiter), (UINT64_C(1) << m.count) - 1);
	}
	(void)state;
}

static void test_weights(void **state)
{
	static struct model m;
	int count;

	for (uint64_t seed = 1; seed <= 600; seed++) {
		random_state = seed * 7919;
		count = 2 + (int)random_below(MODEL_SLICES - 1);
		model_init(&m, count, random_below(3) ? (5 + random_below(16)) * MS : 0);
		m.measured = true;
		for (int i = 0; i < m.count; i++)
			m.settings[i].weight = 1 + random_below(random_below(2) ? 10000 : 500);
		model_run(&m, 4);
		check_weights(&m, 0);
		check_conserving(&m);
	}
	(void)state;
}

static void test_ratios(void **state)
{
	static const struct {
		int count;
		uint32_t weights[MODEL_SLICES];
		double least;		/* of the GPU, all together: issue 4's targets */
	} cases[] = {
		{ 2, { 30, 70 }, 0.985 },
		{ 2, { 1, 9 }, 0.985 },
		{ 2, { 1, 99 }, 0.985 },
		{ 2, { 1, 10000 }, 0.985 },
		{ 3, { 1, 1, 2 }, 0.98 },
		{ 2, { 1, 1 }, 0.985 },
		{ 4, { 1, 1, 1, 1 }, 0.98 },
		{ 8, { 1, 1, 1, 1, 1, 1, 1, 1 }, 0.97 },
	};
	static struct model m;

	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		uint64_t busy = 0;

		for (int measured = 0; measured < 2; measured++) {
			random_state = c;
			model_init(&m, cases[c].count, 0);
			m.measured = measured;
			for (int i = 0; i < m.count; i++)
				m.settings[i].weight = cases[c].weights[i];
			model_run(&m, 6);
			check_weights(&m, 10);
			busy = 0;
			for (int i = 0; i < m.count; i++)
				busy += m.slices[i].busy;
			if ((double)busy < cases[c].least * (double)(m.now - m.start))
				fail_msg("case %zu: %.2f %% of the GPU", c, 100.0 * (double)busy / (double)(m.now - m.start));
		}
	}
	(void)state;
}

/* A cap alone on the GPU: both sides. */
static void test_cap_exact(void **state)
{
	static const uint32_t caps[] = { 1, 10, 50, 100, 250, 333, 500, 750, 900, 990, 999 };
	static struct model m;

	for (size_t c = 0; c < sizeof(caps) / sizeof(caps[0]); c++) {
		for (int measured = 0; measured < 2; measured++) {
			random_state = c;
			model_init(&m, 1, 0);
			m.measured = measured;
			m.settings[0].max_permille = caps[c];
			model_run(&m, 6);
			check_caps(&m, WINDOW_NS / 100);
			for (int end = WINDOW_SAMPLES + 200; end < m.sample_count; end++) {
				uint64_t cap = caps[c] * (WINDOW_NS / 1000);

				if (window_busy(&m, end, 0) + WINDOW_NS / 100 < cap)
					fail_msg("cap %u: only %.2f %%", caps[c],
						 100.0 * (double)window_busy(&m, end, 0) / (double)WINDOW_NS);
			}
			if (measured) {
				/* the meter's word takes the gates' latency out */
				double got = (double)window_busy(&m, m.sample_count - 1, 0) / (double)WINDOW_NS;

				assert_true(got > caps[c] / 1000.0 - 0.005 && got < caps[c] / 1000.0 + 0.005);
			}
		}
	}
	(void)state;
}

/* The phase is on the clock: arbiters that never met agree, and opposite phases never overlap. */
static void test_phase(void **state)
{
	static struct arbiter a, b, c;
	struct arbiter_settings half = { .max_permille = 500 }, other = { .max_permille = 500, .phase_permille = 500 };
	uint64_t start = UINT64_C(123456789012345), next, open_ns = 0;

	arbiter_init(&a, 0, start);
	arbiter_init(&b, 0, start + 7777777);
	arbiter_init(&c, 0, start);
	arbiter_set(&a, 0, &half, start);
	arbiter_set(&b, 0, &half, start + 7777777);
	arbiter_set(&c, 0, &other, start);
	arbiter_wants(&a, 0, true, start);
	arbiter_wants(&b, 0, true, start + 7777777);
	arbiter_wants(&c, 0, true, start);
	for (uint64_t t = start + 10 * MS; t < start + 1000 * MS; t += MS / 10) {
		bool open_a = arbiter_step(&a, t, &next), open_b = arbiter_step(&b, t, &next);
		bool open_c = arbiter_step(&c, t, &next);

		if (t < start + 40 * MS)
			continue;
		assert_int_equal(open_a, open_b);
		assert_false(open_a && open_c);
		open_ns += open_a ? MS / 10 : 0;
	}
	assert_in_range(open_ns, 475 * MS, 485 * MS);
	(void)state;
}

/* Weights 10:90 and the 90 idle: the other has it all, and nothing is switched. */
static void test_alone(void **state)
{
	static struct model m;

	random_state = 1;
	model_init(&m, 2, 0);
	m.measured = true;
	m.settings[0].weight = 10;
	m.settings[1].weight = 90;
	m.slices[1].wants = false;
	model_run(&m, 3);
	assert_true((double)m.slices[0].busy > 0.999 * (double)(m.now - m.start));
	(void)state;
}

static void test_realtime(void **state)
{
	static struct arbiter a;
	struct arbiter_settings normal = { 0 }, realtime = { .priority = ARBITER_REALTIME }, idle = { .priority = ARBITER_IDLE };
	uint64_t now = 1000 * MS, next;

	arbiter_init(&a, 0, now);
	arbiter_set(&a, 0, &normal, now);
	arbiter_set(&a, 1, &realtime, now);
	arbiter_set(&a, 2, &idle, now);
	arbiter_wants(&a, 0, true, now);
	arbiter_wants(&a, 2, true, now);
	assert_int_equal(arbiter_step(&a, now, &next), 3);	/* the idle realtime gate stays open: work shows at once */
	assert_true(next == ARBITER_NEVER);
	arbiter_wants(&a, 1, true, now += MS);
	assert_int_equal(arbiter_step(&a, now, &next), 2);
	arbiter_wants(&a, 1, false, now += MS);
	assert_int_equal(arbiter_step(&a, now, &next), 3);
	arbiter_wants(&a, 0, false, now += MS);
	assert_int_equal(arbiter_step(&a, now, &next), 7);
	arbiter_unset(&a, 2, now);
	assert_int_equal(arbiter_step(&a, now, &next), 3);
	(void)state;
}

/* Time that comes in late and all at once is owed for a while, not for as long again. */
static void test_late(void **state)
{
	static struct arbiter a;
	const struct arbiter_settings settings = { .max_permille = 500 };
	uint64_t now = 1000 * MS, next;

	arbiter_init(&a, 0, now);
	assert_int_equal(arbiter_set(&a, 0, &settings, now), 0);
	arbiter_wants(&a, 0, true, now);
	arbiter_measured(&a, 0, 0, now);
	arbiter_measured(&a, 0, 600000 * MS, now);
	assert_int_equal(arbiter_step(&a, now, &next) & 1, 0);
	for (uint64_t end = now + 1000 * MS; !(arbiter_step(&a, now, &next) & 1); now = next)
		assert_true(next < end);
	(void)state;
}

static void test_bad_settings(void **state)
{
	static struct arbiter a;
	struct arbiter_settings s = { .max_permille = 1001 };
	uint64_t next;

	arbiter_init(&a, 0, 5);
	assert_int_equal(arbiter_set(&a, 0, &s, 5), -EINVAL);
	s = (struct arbiter_settings){ .weight = 10001 };
	assert_int_equal(arbiter_set(&a, 0, &s, 5), -EINVAL);
	s = (struct arbiter_settings){ .phase_permille = 1000 };
	assert_int_equal(arbiter_set(&a, 0, &s, 5), -EINVAL);
	s = (struct arbiter_settings){ .priority = 77 };
	assert_int_equal(arbiter_set(&a, ARBITER_SLICES, &s, 5), -EINVAL);
	assert_int_equal(arbiter_set(&a, ARBITER_SLICES - 1, &s, 5), 0);
	assert_int_equal(arbiter_step(&a, 6, &next), UINT64_C(1) << 63);
	/* the clock of another CPU is behind: nothing breaks */
	assert_int_equal(arbiter_step(&a, 1, &next), UINT64_C(1) << 63);
	(void)state;
}

static void test_wants(void **state)
{
	struct wants w = { 0 };
	uint64_t now = 100 * MS;

	assert_false(wants_update(&w, true, 0, 0, now));
	assert_true(wants_update(&w, true, MS, 0, now += 2 * MS));
	assert_true(wants_update(&w, false, MS, 0, now += 20 * MS));	/* closed: nothing is seen */
	assert_true(wants_update(&w, true, MS, 0, now += 20 * MS));
	assert_true(wants_update(&w, true, MS, 0, now += MS));
	assert_false(wants_update(&w, true, MS, 0, now += 2 * MS));
	assert_true(wants_update(&w, true, 2 * MS, 0, now += MS));
	/* who stays long is doubted, once in a while */
	assert_false(wants_update(&w, true, 200 * MS, 100 * MS, now += 100 * MS));
	assert_true(wants_update(&w, true, 202 * MS, 102 * MS, now += 2 * MS));
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mixed),	    cmocka_unit_test(test_weights),
		cmocka_unit_test(test_ratios),	    cmocka_unit_test(test_cap_exact),
		cmocka_unit_test(test_phase),	    cmocka_unit_test(test_alone),
		cmocka_unit_test(test_realtime),    cmocka_unit_test(test_bad_settings),
		cmocka_unit_test(test_wants),	    cmocka_unit_test(test_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
