/* SPDX-License-Identifier: Apache-2.0 */
/* Reading all ledgers. It must not wait: for a lock, nor for who serves a slice. */
#include "daemon/figures.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "base/cleanup.h"
#include "cli/slice.h"
#include "daemon/pod.h"
#include "rm/rm.h"

/* Copy text that may hold anything and need not end. */
static void copy_ascii(char *to, size_t size, const char *from, size_t from_size)
{
	size_t n = 0;

	for (; n + 1 < size && n < from_size && from[n]; n++)
		to[n] = from[n] >= ' ' && from[n] <= '~' ? from[n] : '?';
	to[n] = '\0';
}

#define COPY_ASCII(to, from) copy_ascii(to, sizeof(to), from, sizeof(from))

/* Copy UTF-8 (jansson takes no other), whole characters only. A line break stays, as the one control
 * character that formats can write down. */
static void copy_utf8(char to[FIGURES_NAME], const char *from)
{
	size_t n = strlen(from);

	if (n >= FIGURES_NAME) {
		n = FIGURES_NAME - 1;
		while (n && ((unsigned char)from[n] & 0xc0) == 0x80)
			n--;
	}
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)from[i];

		to[i] = (c < ' ' && c != '\n') || c == 0x7f ? '?' : from[i];
	}
	to[n] = '\0';
}

void figures_take_identity(struct figures_slice *s, const json_t *identity)
{
	const json_t *annotations = json_object_get(identity, "annotations");
	const json_t *uid = json_object_get(identity, "uid");
	const char *id = json_string_value(json_object_get(identity, "id"));
	const char *nerdctl = json_string_value(json_object_get(annotations, "nerdctl/name"));
	struct pod pod;

	if (json_is_true(json_object_get(identity, "standing")))
		return; /* made by `fracgpu create`: several containers may be in it */
	if (id)
		copy_utf8(s->container, id);
	if (!json_is_integer(uid) || json_integer_value(uid) != 0)
		return;
	pod_find(annotations, &pod);
	if (*pod.container)
		copy_utf8(s->container, pod.container);
	else if (nerdctl && *nerdctl)
		copy_utf8(s->container, nerdctl);
	copy_utf8(s->pod, pod.name);
	copy_utf8(s->pod_namespace, pod.space);
}

static bool has_gpu(const struct figures_slice *s, const char *uuid, uint32_t index)
{
	for (uint32_t i = 0; i < s->gpu_count; i++) {
		if (s->gpus[i].index == index || strcmp(s->gpus[i].uuid, uuid) == 0)
			return true;
	}
	return false;
}

static void take_gpu(struct figures_slice *s, const struct ledger *l, uint32_t i)
{
	struct figures_gpu *gpu = &s->gpus[s->gpu_count];
	const struct ledger_compute *compute = &l->compute[i];

	*gpu = (struct figures_gpu){
		.index = l->gpus[i].index,
		.limit_bytes = l->account.limit_bytes[i],
		.used_bytes = l->account.used_bytes[i],
		.peak_bytes = l->account.peak_bytes[i],
		.refusals = l->account.refusals[i],
		.is_measured = compute->source != 0,
		.busy_ns = compute->source ? compute->busy_ns : 0,
		.throttled_ns = compute->throttled_ns,
		.switches = compute->switches,
		.busy_permille = FIGURES_UNKNOWN,
		.throttled_permille = FIGURES_UNKNOWN,
	};
	COPY_ASCII(gpu->uuid, l->gpus[i].uuid);
	/* a series that is there twice would spoil all of them */
	if (gpu->limit_bytes && !has_gpu(s, gpu->uuid, gpu->index))
		s->gpu_count++;
}

void figures_take_ledger(struct figures_slice *s, const struct ledger *l)
{
	COPY_ASCII(s->door, l->door);
	COPY_ASCII(s->driver, l->driver);
	s->is_paused = l->frozen != 0;
	s->is_breached = l->breached != 0;
	s->cap_permille = l->compute_max_permille;
	s->weight = l->compute_weight;
	s->priority = l->compute_priority;
	memcpy(s->events, l->events, sizeof(s->events));
	for (uint32_t i = 0; i < l->account.gpu_count && i < ACCOUNT_GPUS; i++)
		take_gpu(s, l, i);
}

/* Processes of the slice. ret_dead: there are slots of processes that have died, so that the sums may be too
 * large. */
static uint32_t count_processes(struct ledger_handle *h, bool *ret_dead)
{
	bool is_file = strcmp(h->ledger->door, "preload") == 0;
	uint32_t count = 0;

	*ret_dead = false;
	for (uint16_t i = 0; i < LEDGER_SLOTS; i++) {
		if (h->ledger->slots[i].state != SLOT_LIVE)
			continue;
		if (!is_file || ledger_slot_is_alive(h, i))
			count++;
		else
			*ret_dead = true;
	}
	return count;
}

static int take_slice(struct figures_slice *s, const char *path)
{
	char file[SLICE_PATH + sizeof("/container")];
	struct slice copy = { 0 };
	struct ledger_handle h;
	json_t *identity;
	bool has_dead;
	int r;

	snprintf(file, sizeof(file), "%s/ledger", path);
	r = ledger_open(&h, file, false);
	if (r < 0)
		return r;
	s->serial = h.ino ^ (uint64_t)h.ledger->created_s << 32;
	s->processes = count_processes(&h, &has_dead);
	/* a copy without the dead is ten megabytes: not for every slice, each time */
	if (has_dead)
		r = slice_read(&copy, path);
	if (r == 0)
		figures_take_ledger(s, has_dead ? copy.ledger : h.ledger);
	slice_done(&copy);
	ledger_close(&h);
	snprintf(file, sizeof(file), "%s/container", path);
	identity = json_load_file(file, 0, NULL);
	if (identity)
		figures_take_identity(s, identity);
	json_decref(identity);
	return r;
}

static int add_slice(const char *path, const char *name, void *arg)
{
	struct figures *f = arg;
	struct figures_slice *s = &f->slices[f->slice_count];
	int r;

	if (!slice_is_held(path))
		return 0;
	if (f->slice_count == FIGURES_SLICES) {
		f->left_out++;
		return 0;
	}
	memset(s, 0, sizeof(*s));
	snprintf(s->name, sizeof(s->name), "%s", name);
	r = take_slice(s, path);
	if (r == 0)
		f->slice_count++;
	else if (r != -ENOENT) /* else it went away */
		f->unreadable++;
	return 0;
}

static void add_to_cards(struct figures *f, const struct figures_gpu *gpu)
{
	for (uint32_t i = 0; i < f->card_count; i++) {
		struct figures_card *card = &f->cards[i];

		if (strcmp(card->uuid, gpu->uuid) != 0)
			continue;
		card->given_bytes += gpu->limit_bytes;
		card->used_bytes += gpu->used_bytes;
		card->slices++;
	}
}

static bool is_same_container(const struct figures_slice *a, const struct figures_slice *b)
{
	return a->pod[0] && strcmp(a->container, b->container) == 0 && strcmp(a->pod, b->pod) == 0 &&
	       strcmp(a->pod_namespace, b->pod_namespace) == 0;
}

void figures_add_up(struct figures *f)
{
	for (uint32_t i = 0; i < f->card_count; i++)
		f->cards[i].given_bytes = f->cards[i].used_bytes = f->cards[i].slices = 0;
	for (uint32_t i = 0; i < f->slice_count; i++) {
		struct figures_slice *s = &f->slices[i];

		for (uint32_t k = 0; k < s->gpu_count; k++)
			add_to_cards(f, &s->gpus[k]);
		for (uint32_t k = 0; k < i && !s->is_twin; k++)
			s->is_twin = is_same_container(s, &f->slices[k]);
	}
}

int figures_read(struct figures *f, const char *runtime)
{
	char path[RUNTIME_PATH + sizeof("/.lock")];
	cleanup_close int lock = -1;

	snprintf(path, sizeof(path), "%s/.lock", runtime);
	lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock >= 0 && flock(lock, LOCK_SH | LOCK_NB) < 0)
		return -EAGAIN;
	f->slice_count = f->left_out = f->unreadable = 0;
	slices_each(runtime, add_slice, f);
	figures_add_up(f);
	return 0;
}

int figures_find_cards(struct figures *f, struct error *err)
{
	struct rm rm;
	int r = rm_open(&rm, err);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < rm.gpu_count; i++) {
		f->cards[i] = (struct figures_card){ .index = rm.gpus[i].gpu.index,
						     .total_bytes = rm.gpus[i].gpu.total_bytes,
						     .busy_permille = FIGURES_UNKNOWN };
		COPY_ASCII(f->cards[i].uuid, rm.gpus[i].gpu.uuid);
		COPY_ASCII(f->cards[i].model, rm.gpus[i].gpu.name);
	}
	f->card_count = rm.gpu_count;
	rm_close(&rm);
	return 0;
}
