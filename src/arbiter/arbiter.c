/* SPDX-License-Identifier: Apache-2.0 */
/* Whose turn it is on one GPU: budgets for caps, deficit round robin for weights, classes for priorities. */
#include "arbiter/arbiter.h"

#include <errno.h>
#include <string.h>

#define MS INT64_C(1000000)

/* A gate takes 0.5 ms to close and 0.3 ms to open (gpu-baselines: pause and resume): shorter runs are mostly loss. */
#define RUN_MIN_NS (2 * MS)
/* A slice that could not use its budget, because others had their turns, keeps this much of it: a quarter of a point
 * of 2 s. */
#define CARRY_NS (5 * MS)
/* Turns that lasted too long are owed up to this much. */
#define OWED_MAX_NS (200 * MS)
/* The soonest that the arbiter asks to be asked again. */
#define STEP_MIN_NS (MS / 20)
/* Four or eight busy tenants that take turns of 16 ms get 98.7 % of the work done that one gets alone, of 20 ms 98.8 %, of
 * 6.7 ms 94.0 % [H200]. */
#define QUANTUM_NS (20 * MS)
#define REALTIME_PERIOD_NS (200 * MS)
#define REALTIME_ALLOWANCE_NS (190 * MS)

static uint64_t bit(uint32_t slice)
{
	return UINT64_C(1) << slice;
}

static int64_t min_i64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t max_i64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static void next_at(uint64_t *next, uint64_t now, int64_t in_ns)
{
	uint64_t at = now + (uint64_t)max_i64(in_ns, STEP_MIN_NS);

	if (at < *next)
		*next = at;
}

uint64_t arbiter_period_ns(uint32_t max_permille, uint64_t latency_ns)
{
	static const uint16_t choices_ms[] = { 4, 5, 8, 10, 20, 40, 100, 200, 400, 1000, 2000 };
	int64_t best = 0;

	if (!latency_ns)
		latency_ns = ARBITER_LATENCY_MAX_NS;
	for (size_t i = 0; i < sizeof(choices_ms) / sizeof(choices_ms[0]); i++) {
		int64_t period = choices_ms[i] * MS;
		int64_t open = period / 1000 * max_permille;

		if (min_i64(open, period - open) < RUN_MIN_NS)
			continue;
		if (!best || (period <= 20 * MS && period - open <= (int64_t)latency_ns))
			best = period;
	}
	return best ? (uint64_t)best : 2000 * MS;
}

static uint64_t period_of(const struct arbiter_slice *s, uint64_t now)
{
	return (now + s->period_ns - s->period_ns / 1000 * s->settings.phase_permille) / s->period_ns;
}

static uint64_t period_left(const struct arbiter_slice *s, uint64_t now)
{
	uint64_t shifted = now + s->period_ns - s->period_ns / 1000 * s->settings.phase_permille;

	return s->period_ns - shifted % s->period_ns;
}

static bool is_capped(const struct arbiter_slice *s)
{
	return s->period_ns != 0;
}

static bool is_contender(const struct arbiter *a, uint32_t slice)
{
	return a->contenders & bit(slice);
}

static void charge(struct arbiter *a, uint32_t slice, int64_t ns)
{
	struct arbiter_slice *s = &a->slices[slice];

	s->charged_ns += (uint64_t)ns;
	/* what came late cannot be owed for ever */
	if (is_capped(s))
		s->level_ns = max_i64(s->level_ns - ns, -OWED_MAX_NS);
	if (is_contender(a, slice))
		s->deficit_ns -= ns;
	if (s->settings.priority == ARBITER_REALTIME)
		a->realtime_level_ns -= ns;
}

/* Fill the budgets of the periods that began. */
static void refill(struct arbiter *a, uint64_t now)
{
	uint64_t period = now / REALTIME_PERIOD_NS;

	if (period != a->realtime_period) {
		/* only what was used too much is remembered */
		a->realtime_level_ns = REALTIME_ALLOWANCE_NS + max_i64(min_i64(a->realtime_level_ns, 0), -10 * MS);
		a->realtime_period = period;
	}
	for (uint32_t i = 0; i < ARBITER_SLICES; i++) {
		struct arbiter_slice *s = &a->slices[i];

		if (!s->used || !is_capped(s))
			continue;
		period = period_of(s, now);
		/* more than a few periods ago there is nothing left to owe */
		for (uint64_t n = 0; n < 4 && s->period != period; n++, s->period++)
			s->level_ns = min_i64(s->level_ns + s->allowance_ns, s->allowance_ns + CARRY_NS);
		s->period = period;
	}
}

/* Time passes: whoever wants the GPU and has an open gate is taken to have used it, in equal parts. */
static void advance(struct arbiter *a, uint64_t now)
{
	uint64_t running = 0, elapsed;
	int count = 0;

	if (now <= a->now_ns)
		return;
	elapsed = now - a->now_ns;
	a->now_ns = now;
	for (uint32_t i = 0; i < ARBITER_SLICES; i++) {
		struct arbiter_slice *s = &a->slices[i];

		if (!s->used || !s->wants)
			continue;
		if (a->open & bit(i)) {
			running |= bit(i);
			count++;
		} else if (is_capped(s) && s->level_ns <= 0) {
			s->throttled_ns += elapsed;
		}
	}
	for (uint32_t i = 0; i < ARBITER_SLICES; i++) {
		if (!(running & bit(i)))
			continue;
		charge(a, i, (int64_t)(elapsed / (uint64_t)count));
		a->slices[i].estimate_ns += (int64_t)(elapsed / (uint64_t)count);
	}
	refill(a, now);
}

static uint64_t possible_latency(uint64_t ns)
{
	if (!ns)
		return 0;
	if (ns < ARBITER_LATENCY_MIN_NS)
		ns = ARBITER_LATENCY_MIN_NS;
	return ns < ARBITER_LATENCY_MAX_NS ? ns : ARBITER_LATENCY_MAX_NS;
}

void arbiter_init(struct arbiter *a, uint64_t latency_ns, uint64_t now_ns)
{
	memset(a, 0, sizeof(*a));
	a->latency_ns = possible_latency(latency_ns);
	a->now_ns = now_ns;
	a->holder = -1;
	a->cursor = -1;
	a->realtime_period = now_ns / REALTIME_PERIOD_NS;
	a->realtime_level_ns = REALTIME_ALLOWANCE_NS;
}

/* A cap begins or changes: what is left of the period is worth its part of the budget. */
static void set_cap(struct arbiter *a, struct arbiter_slice *s)
{
	uint32_t permille = s->settings.max_permille;

	if (!permille || permille >= 1000) {
		s->period_ns = 0;
		return;
	}
	s->period_ns = arbiter_period_ns(permille, a->latency_ns);
	s->allowance_ns = (int64_t)(s->period_ns / 1000 * permille);
	s->level_ns = (int64_t)(period_left(s, a->now_ns) / 1000 * permille);
	s->period = period_of(s, a->now_ns);
}

void arbiter_latency(struct arbiter *a, uint64_t latency_ns, uint64_t now_ns)
{
	latency_ns = possible_latency(latency_ns);
	if (latency_ns == a->latency_ns)
		return;
	advance(a, now_ns);
	a->latency_ns = latency_ns;
	for (uint32_t i = 0; i < ARBITER_SLICES; i++)
		if (a->slices[i].used)
			set_cap(a, &a->slices[i]);
}

int arbiter_set(struct arbiter *a, uint32_t slice, const struct arbiter_settings *settings, uint64_t now_ns)
{
	struct arbiter_slice *s;
	bool cap_changed;

	if (slice >= ARBITER_SLICES || settings->max_permille > 1000 || settings->weight > ARBITER_WEIGHT_MAX ||
	    settings->phase_permille >= 1000)
		return -EINVAL;
	advance(a, now_ns);
	s = &a->slices[slice];
	if (!s->used) {
		memset(s, 0, sizeof(*s));
		s->used = true;
		a->open |= bit(slice);
	}
	cap_changed = settings->max_permille != s->settings.max_permille ||
		      settings->phase_permille != s->settings.phase_permille;
	s->settings = *settings;
	if (!s->settings.weight)
		s->settings.weight = ARBITER_WEIGHT_DEFAULT;
	if (s->settings.priority > ARBITER_IDLE)
		s->settings.priority = ARBITER_NORMAL;
	if (cap_changed)
		set_cap(a, s);
	return 0;
}

void arbiter_unset(struct arbiter *a, uint32_t slice, uint64_t now_ns)
{
	if (slice >= ARBITER_SLICES)
		return;
	advance(a, now_ns);
	memset(&a->slices[slice], 0, sizeof(a->slices[slice]));
	a->open &= ~bit(slice);
	a->contenders &= ~bit(slice);
	if (a->holder == (int)slice)
		a->holder = -1;
}

void arbiter_wants(struct arbiter *a, uint32_t slice, bool wants, uint64_t now_ns)
{
	struct arbiter_slice *s;

	if (slice >= ARBITER_SLICES || !a->slices[slice].used)
		return;
	advance(a, now_ns);
	s = &a->slices[slice];
	/* nobody saves up turns while idle; turns taken too long stay owed */
	if (s->wants && !wants)
		s->deficit_ns = min_i64(s->deficit_ns, 0);
	s->wants = wants;
}

void arbiter_measured(struct arbiter *a, uint32_t slice, uint64_t busy_ns, uint64_t now_ns)
{
	struct arbiter_slice *s;

	if (slice >= ARBITER_SLICES || !a->slices[slice].used)
		return;
	advance(a, now_ns);
	s = &a->slices[slice];
	if (s->measured && busy_ns >= s->busy_seen_ns)
		charge(a, slice, (int64_t)(busy_ns - s->busy_seen_ns) - s->estimate_ns);
	s->measured = true;
	s->busy_seen_ns = busy_ns;
	s->estimate_ns = 0;
}

/* 0 goes first. */
static int rank_of(const struct arbiter_slice *s)
{
	if (s->settings.priority == ARBITER_REALTIME)
		return 0;
	return s->settings.priority == ARBITER_IDLE ? 2 : 1;
}

static bool is_throttled(const struct arbiter_slice *s)
{
	return is_capped(s) && s->level_ns <= 0;
}

/* The slices that may run at all, and of those that want to, per rank. */
static uint64_t sort_out(const struct arbiter *a, uint64_t ret_wanting[3])
{
	uint64_t may = 0;

	memset(ret_wanting, 0, 3 * sizeof(ret_wanting[0]));
	for (uint32_t i = 0; i < ARBITER_SLICES; i++) {
		const struct arbiter_slice *s = &a->slices[i];

		if (!s->used || s->settings.frozen || is_throttled(s))
			continue;
		may |= bit(i);
		if (s->wants)
			ret_wanting[rank_of(s)] |= bit(i);
	}
	return may;
}

/* ns that all contenders together run in a round. The one with the least weight waits longest, for the turns of the
 * others: that wait shall be the latency asked for. Where none was, quanta are QUANTUM_NS on the average, but no slice
 * runs ahead, or falls behind, by more than that: over 2 s it is a point. */
static uint64_t round_ns(const struct arbiter *a, uint64_t contenders, uint64_t *ret_weights)
{
	uint64_t sum = 0, least = UINT64_MAX, most = 0, count = 0, ahead;

	for (uint32_t i = 0; i < ARBITER_SLICES; i++) {
		uint32_t weight = a->slices[i].settings.weight;

		if (!(contenders & bit(i)))
			continue;
		sum += weight;
		count++;
		if (weight < least)
			least = weight;
		if (weight > most)
			most = weight;
	}
	*ret_weights = sum;
	if (a->latency_ns)
		return a->latency_ns * sum / (sum - least);
	ahead = most < sum - most ? most : sum - most;
	return (uint64_t)QUANTUM_NS * (sum < ahead * count ? sum : ahead * count) / ahead;
}

/* The next contender with a run that is worth it, after the last one; -1 when the round is over. */
static int due_after(const struct arbiter *a, uint64_t contenders, int last)
{
	for (int n = 1; n <= ARBITER_SLICES; n++) {
		int i = (last + n) % ARBITER_SLICES;

		if (contenders & bit((uint32_t)i) && a->slices[i].deficit_ns >= RUN_MIN_NS)
			return i;
	}
	return -1;
}

static void start_turn(struct arbiter *a, uint64_t contenders, uint64_t now)
{
	uint64_t weights, round = round_ns(a, contenders, &weights);
	int next = due_after(a, contenders, a->cursor);

	/* a small share waits for more rounds than one until its run is worth it */
	while (next < 0) {
		for (uint32_t i = 0; i < ARBITER_SLICES; i++) {
			struct arbiter_slice *s = &a->slices[i];

			if (!(contenders & bit(i)))
				continue;
			/* who had too much, because whoever drives the gates came late, gives it back, but not for ever */
			s->deficit_ns = max_i64(s->deficit_ns, -OWED_MAX_NS);
			s->deficit_ns += (int64_t)(round * s->settings.weight / weights);
		}
		next = due_after(a, contenders, a->cursor);
	}
	a->holder = next;
	a->cursor = next;
	a->turn_end_ns = now + (uint64_t)(a->slices[next].deficit_ns * 3 / 2 + RUN_MIN_NS);
}

/* One at a time. */
static void take_turns(struct arbiter *a, uint64_t contenders, uint64_t now)
{
	a->contenders = contenders;
	if (a->holder >= 0 && contenders & bit((uint32_t)a->holder)) {
		struct arbiter_slice *s = &a->slices[a->holder];

		if (s->deficit_ns > 0 && now < a->turn_end_ns)
			return;
		/* a turn that was not used is lost */
		s->deficit_ns = min_i64(s->deficit_ns, 0);
	}
	start_turn(a, contenders, now);
}

/* The earliest time at which a budget or a turn ends, or a period begins. */
static uint64_t next_event(const struct arbiter *a, uint64_t wanting_normal, uint64_t now)
{
	uint64_t next = ARBITER_NEVER;
	int running = 0;
	bool realtime = false;

	for (uint32_t i = 0; i < ARBITER_SLICES; i++)
		running += a->slices[i].wants && a->open & bit(i);
	for (uint32_t i = 0; i < ARBITER_SLICES; i++) {
		const struct arbiter_slice *s = &a->slices[i];

		if (!s->used || s->settings.frozen)
			continue;
		if (is_throttled(s))
			next_at(&next, now, (int64_t)period_left(s, now));
		else if (is_capped(s) && s->wants && a->open & bit(i))
			next_at(&next, now, s->level_ns * running);
		realtime |= s->wants && rank_of(s) == 0;
	}
	if (a->holder >= 0) {
		next_at(&next, now, a->slices[a->holder].deficit_ns);
		next_at(&next, now, (int64_t)(a->turn_end_ns - now));
	}
	if (realtime && wanting_normal && a->realtime_level_ns > 0)
		next_at(&next, now, a->realtime_level_ns);
	if (realtime && wanting_normal)
		next_at(&next, now, (int64_t)(REALTIME_PERIOD_NS - now % REALTIME_PERIOD_NS));
	return next;
}

uint64_t arbiter_step(struct arbiter *a, uint64_t now_ns, uint64_t *ret_next_ns)
{
	uint64_t wanting[3], may, top = 0;
	int rank = 0;

	advance(a, now_ns);
	may = sort_out(a, wanting);
	if (wanting[0] && wanting[1] && a->realtime_level_ns <= 0)
		rank = 1;
	else
		while (rank < 3 && !wanting[rank])
			rank++;

	/* idle gates stay open, so that work shows as soon as there is some; those of lower ranks only when no other
	 * work could be disturbed */
	for (uint32_t i = 0; i < ARBITER_SLICES; i++)
		if (may & bit(i) && !a->slices[i].wants && rank_of(&a->slices[i]) <= rank)
			top |= bit(i);
	if (rank == 3) {
		a->open = may;
		a->contenders = 0;
		a->holder = -1;
	} else if (!(wanting[rank] & (wanting[rank] - 1))) {
		a->open = top | wanting[rank];
		a->contenders = 0;
		a->holder = -1;
	} else {
		take_turns(a, wanting[rank], a->now_ns);
		a->open = top | bit((uint32_t)a->holder);
	}
	*ret_next_ns = next_event(a, wanting[1], a->now_ns);
	return a->open;
}

uint64_t arbiter_done(struct arbiter *a)
{
	uint64_t all = 0;

	for (uint32_t i = 0; i < ARBITER_SLICES; i++)
		if (a->slices[i].used)
			all |= bit(i);
	arbiter_init(a, a->latency_ns, a->now_ns);
	return all;
}
