/* SPDX-License-Identifier: Apache-2.0 */
/* Rings of points, one for each GPU of each slice and one for each card. */
#include "daemon/history.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

void history_init(struct history *h, uint32_t step_s)
{
	h->step_ns = (uint64_t)step_s * UINT64_C(1000000000);
}

static struct history_track *find(struct history *h, const char *slice, uint64_t serial, const char *uuid)
{
	for (uint32_t i = 0; i < HISTORY_TRACKS; i++) {
		struct history_track *t = &h->tracks[i];

		if (t->is_used && t->serial == serial && strcmp(t->slice, slice) == 0 &&
		    strcmp(t->uuid, uuid) == 0)
			return t;
	}
	return NULL;
}

static struct history_track *make(struct history *h, const char *slice, uint64_t serial, const char *uuid)
{
	for (uint32_t i = 0; i < HISTORY_TRACKS; i++) {
		struct history_track *t = &h->tracks[i];

		if (t->is_used)
			continue;
		memset(t, 0, sizeof(*t));
		t->is_used = true;
		t->serial = serial;
		t->first_step = h->step + 1;
		t->busy_permille = t->throttled_permille = FIGURES_UNKNOWN;
		snprintf(t->slice, sizeof(t->slice), "%s", slice);
		snprintf(t->uuid, sizeof(t->uuid), "%s", uuid);
		return t;
	}
	return NULL;
}

static struct history_track *find_or_make(struct history *h, const char *slice, uint64_t serial,
					  const char *uuid)
{
	struct history_track *t = find(h, slice, serial, uuid);

	t = t ? t : make(h, slice, serial, uuid);
	if (t)
		t->is_seen = true;
	return t;
}

static void count_on(struct history_counter *c, uint64_t *value)
{
	c->total += *value >= c->raw ? *value - c->raw : *value;
	c->raw = *value;
	*value = c->total;
}

static void follow_gpu(struct history_track *t, struct figures_gpu *gpu)
{
	if (gpu->is_measured || !t->is_measured)
		count_on(&t->busy_ns, &gpu->busy_ns);
	else
		gpu->busy_ns = t->busy_ns.total; /* nobody measures any more: it stays where it was */
	t->is_measured |= gpu->is_measured;
	gpu->is_measured = t->is_measured;
	count_on(&t->throttled_ns, &gpu->throttled_ns);
	count_on(&t->switches, &gpu->switches);
	gpu->busy_permille = t->busy_permille;
	gpu->throttled_permille = t->throttled_permille;
}

void history_follow(struct history *h, struct figures *f)
{
	for (uint32_t i = 0; i < HISTORY_TRACKS; i++)
		h->tracks[i].is_seen = false;
	for (uint32_t i = 0; i < f->card_count; i++) {
		const struct history_track *t = find_or_make(h, "", 0, f->cards[i].uuid);

		f->cards[i].busy_permille = t ? t->busy_permille : FIGURES_UNKNOWN;
	}
	for (uint32_t i = 0; i < f->slice_count; i++) {
		struct figures_slice *s = &f->slices[i];

		for (uint32_t k = 0; k < s->gpu_count; k++) {
			struct history_track *t = find_or_make(h, s->name, s->serial, s->gpus[k].uuid);

			if (t)
				follow_gpu(t, &s->gpus[k]);
		}
	}
	for (uint32_t i = 0; i < HISTORY_TRACKS; i++)
		h->tracks[i].is_used &= h->tracks[i].is_seen;
}

uint64_t history_due_ns(const struct history *h)
{
	return h->step ? h->sampled_ns + h->step_ns : 0;
}

static uint32_t to_mib(uint64_t bytes)
{
	return (uint32_t)(bytes >> 20);
}

static int32_t share(uint64_t now, uint64_t then, uint64_t ns)
{
	uint64_t permille = ns ? (now - then) * 1000 / ns : 0;

	return permille > 1000 ? 1000 : (int32_t)permille;
}

static void put(struct history *h, struct history_track *t, uint64_t used_bytes, uint64_t limit_bytes)
{
	t->points[h->step % HISTORY_POINTS] = (struct history_point){
		.used_mib = to_mib(used_bytes),
		.limit_mib = to_mib(limit_bytes),
		.busy_permille = (int16_t)t->busy_permille,
		.throttled_permille = (int16_t)t->throttled_permille,
		.is_there = true,
	};
}

static void sample_gpu(struct history *h, struct history_track *t, struct figures_gpu *gpu, uint64_t ns)
{
	t->busy_permille = t->throttled_permille = FIGURES_UNKNOWN;
	if (t->is_sampled)
		t->throttled_permille = share(gpu->throttled_ns, t->sampled_throttled_ns, ns);
	if (t->is_sampled && t->was_measured && gpu->is_measured)
		t->busy_permille = share(gpu->busy_ns, t->sampled_busy_ns, ns);
	t->is_sampled = true;
	t->was_measured = gpu->is_measured;
	t->sampled_busy_ns = gpu->busy_ns;
	t->sampled_throttled_ns = gpu->throttled_ns;
	gpu->busy_permille = t->busy_permille;
	gpu->throttled_permille = t->throttled_permille;
	put(h, t, gpu->used_bytes, gpu->limit_bytes);
}

static void sample_card(struct history *h, const struct figures *f, struct figures_card *card)
{
	struct history_track *t = find(h, "", 0, card->uuid);
	int32_t sum = FIGURES_UNKNOWN;

	for (uint32_t i = 0; i < f->slice_count; i++) {
		for (uint32_t k = 0; k < f->slices[i].gpu_count; k++) {
			const struct figures_gpu *gpu = &f->slices[i].gpus[k];

			if (gpu->busy_permille >= 0 && strcmp(gpu->uuid, card->uuid) == 0)
				sum = (sum < 0 ? 0 : sum) + gpu->busy_permille;
		}
	}
	card->busy_permille = sum > 1000 ? 1000 : sum;
	if (!t)
		return;
	t->busy_permille = card->busy_permille;
	put(h, t, card->used_bytes, card->given_bytes);
}

/* Steps that nobody was there for (the host slept) have no points. */
static void move_on(struct history *h, uint64_t now_ns)
{
	uint64_t missed = h->step ? (now_ns - h->sampled_ns) / h->step_ns : 1;

	missed = missed ? missed - 1 : 0;
	for (uint64_t i = 0; i < missed && i < HISTORY_POINTS; i++) {
		for (uint32_t k = 0; k < HISTORY_TRACKS; k++)
			h->tracks[k].points[(h->step + 1 + i) % HISTORY_POINTS].is_there = false;
	}
	h->step += missed + 1;
}

void history_sample(struct history *h, struct figures *f, uint64_t now_ns)
{
	uint64_t ns = h->step ? now_ns - h->sampled_ns : 0;

	move_on(h, now_ns);
	h->sampled_ns = now_ns;
	for (uint32_t i = 0; i < f->slice_count; i++) {
		struct figures_slice *s = &f->slices[i];

		for (uint32_t k = 0; k < s->gpu_count; k++) {
			struct history_track *t = find(h, s->name, s->serial, s->gpus[k].uuid);

			if (t)
				sample_gpu(h, t, &s->gpus[k], ns);
		}
	}
	for (uint32_t i = 0; i < f->card_count; i++)
		sample_card(h, f, &f->cards[i]);
}

const struct history_track *history_find(const struct history *h, const struct figures_slice *slice,
					 const char *uuid)
{
	return find((struct history *)h, slice ? slice->name : "", slice ? slice->serial : 0, uuid);
}

uint32_t history_count(const struct history *h, const struct history_track *t)
{
	uint64_t count = h->step >= t->first_step ? h->step - t->first_step + 1 : 0;

	return count < HISTORY_POINTS ? (uint32_t)count : HISTORY_POINTS;
}

const struct history_point *history_point(const struct history *h, const struct history_track *t,
					  uint32_t index)
{
	return &t->points[(h->step - history_count(h, t) + 1 + index) % HISTORY_POINTS];
}
