/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON of /api/state. */
#include "daemon/state.h"

#include "cli/slice.h"

static json_t *share_json(int32_t permille)
{
	return permille < 0 ? json_null() : json_integer(permille);
}

/* {used_mib, limit_mib, busy_permille, throttled_permille}: a list each, the newest at the end. */
static json_t *history_json(const struct history *h, const struct history_track *t)
{
	json_t *used = json_array(), *limit = json_array(), *busy = json_array(), *throttled = json_array();

	for (uint32_t i = 0; t && i < history_count(h, t); i++) {
		const struct history_point *p = history_point(h, t, i);

		json_array_append_new(used, p->is_there ? json_integer(p->used_mib) : json_null());
		json_array_append_new(limit, p->is_there ? json_integer(p->limit_mib) : json_null());
		json_array_append_new(busy, share_json(p->is_there ? p->busy_permille : FIGURES_UNKNOWN));
		json_array_append_new(throttled,
				      share_json(p->is_there ? p->throttled_permille : FIGURES_UNKNOWN));
	}
	return json_pack("{s:o,s:o,s:o,s:o}", "used_mib", used, "limit_mib", limit, "busy_permille", busy,
			 "throttled_permille", throttled);
}

static json_t *card_json(const struct history *h, const struct figures_card *card)
{
	return json_pack("{s:I,s:s,s:s,s:I,s:I,s:I,s:I,s:o,s:o}", "index", (json_int_t)card->index, "uuid",
			 card->uuid, "name", card->model, "total_bytes", (json_int_t)card->total_bytes,
			 "given_bytes", (json_int_t)card->given_bytes, "used_bytes",
			 (json_int_t)card->used_bytes, "slices", (json_int_t)card->slices, "busy_permille",
			 share_json(card->busy_permille), "history",
			 history_json(h, history_find(h, NULL, card->uuid)));
}

static json_t *gpu_json(const struct history *h, const struct figures_slice *s, const struct figures_gpu *gpu)
{
	return json_pack("{s:I,s:s,s:I,s:I,s:I,s:I,s:o,s:o,s:I,s:o,s:I,s:o}", "index", (json_int_t)gpu->index,
			 "uuid", gpu->uuid, "used_bytes", (json_int_t)gpu->used_bytes, "limit_bytes",
			 (json_int_t)gpu->limit_bytes, "peak_bytes", (json_int_t)gpu->peak_bytes, "refusals",
			 (json_int_t)gpu->refusals, "busy_ns",
			 gpu->is_measured ? json_integer((json_int_t)gpu->busy_ns) : json_null(),
			 "busy_permille", share_json(gpu->busy_permille), "throttled_ns",
			 (json_int_t)gpu->throttled_ns, "throttled_permille",
			 share_json(gpu->throttled_permille), "switches", (json_int_t)gpu->switches,
			 "history", history_json(h, history_find(h, s, gpu->uuid)));
}

/* What a slice waits for; NULL: nothing. */
static const char *waits_for(const struct figures_slice *s)
{
	for (uint32_t i = 0; i < s->gpu_count && !s->is_paused; i++) {
		if (s->gpus[i].throttled_permille > 0)
			return "throttled";
	}
	return s->is_paused ? "paused" : NULL;
}

static json_t *slice_json(const struct history *h, const struct figures_slice *s)
{
	json_t *gpus = json_array(), *events = json_object();

	for (uint32_t i = 0; i < s->gpu_count; i++)
		json_array_append_new(gpus, gpu_json(h, s, &s->gpus[i]));
	for (int i = 0; i < LEDGER_EVENTS; i++)
		json_object_set_new(events, slice_event_names[i], json_integer((json_int_t)s->events[i]));
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s?,s:b,s:b,s:I,s:o,s:o,s:o}", "name", s->name, "container",
			 s->container, "pod", s->pod, "namespace", s->pod_namespace, "door", s->door, "waits",
			 waits_for(s), "paused", (int)s->is_paused, "breached", (int)s->is_breached,
			 "processes", (json_int_t)s->processes, "cap_permille",
			 s->cap_permille ? json_integer(s->cap_permille) : json_null(), "events", events,
			 "gpus", gpus);
}

json_t *state_json(const struct figures *f, const struct history *h, const char *host, time_t now_s)
{
	json_t *cards = json_array(), *slices = json_array();

	for (uint32_t i = 0; i < f->card_count; i++)
		json_array_append_new(cards, card_json(h, &f->cards[i]));
	for (uint32_t i = 0; i < f->slice_count; i++)
		json_array_append_new(slices, slice_json(h, &f->slices[i]));
	return json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:o,s:o}", "version", FRACGPU_VERSION, "host", host,
			 "time", (json_int_t)now_s, "step_s", (json_int_t)(h->step_ns / 1000000000), "points",
			 (json_int_t)HISTORY_POINTS, "left_out", (json_int_t)(f->left_out + f->unreadable),
			 "cards", cards, "slices", slices);
}
