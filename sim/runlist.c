/* SPDX-License-Identifier: Apache-2.0 */
/* The run list of the simulated GPUs; see sim/runlist.h. Under the sim's lock, all of it. */
#include "sim/runlist.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"

#define SWITCH_NS 84000u
#define TIMESLICE_NS 2000000
#define CLOSE_NS 500000
#define OPEN_NS 300000

enum { TAG_START = 0x06, TAG_END = 0x07 };

/* Work of one channel. Objects are looked up anew each time: they may be gone. */
struct work {
	struct work *next;
	uint32_t client, channel;
	uint32_t group_client, group;	/* what shares a timeslice: the group, or the channel itself */
	uint64_t left_ns, busy_ns;
	bool can_run;			/* at the moment: there, on, with work */
	uint64_t timeslice_ns;
	pid_t pid;
};

static struct run_list {
	struct work *works;
	uint64_t now_ns;
	uint64_t switching_ns, total_ns;
	uint64_t ready_ns;		/* the switch to the resident group ends */
	uint64_t slice_end_ns;
	bool is_resident, has_started;
	uint32_t group_client, group;	/* the resident one */
	uint32_t context;
	pid_t pid;
} lists[SIM_GPUS];

static struct sim_object *work_channel(struct sim *sim, const struct work *w)
{
	struct sim_client *client = sim_client_any(sim, w->client);
	struct sim_object *channel = client ? sim_object_find(client, w->channel) : NULL;

	return channel && channel->is_channel ? channel : NULL;
}

/* What of the work can run, as the objects stand now. */
static void look(struct sim *sim, struct run_list *l)
{
	struct work **at = &l->works;

	while (*at) {
		struct work *w = *at;
		struct sim_object *channel = work_channel(sim, w);

		if (!channel) {
			*at = w->next;
			free(w);
			continue;
		}
		w->can_run = channel->enabled && channel->scheduled && w->left_ns;
		/* 0 is 1 us to the hardware (dev_ram.h) */
		w->timeslice_ns = TIMESLICE_NS;
		if (channel->parent && channel->parent->is_group)
			w->timeslice_ns = channel->parent->timeslice_us ? channel->parent->timeslice_us * 1000 : 1000;
		at = &w->next;
	}
}

static bool is_of(const struct work *w, uint32_t group_client, uint32_t group)
{
	return w->group_client == group_client && w->group == group;
}

/* The next work that can run, in turn; not of the group that is resident. NULL: none. */
static struct work *next_group(const struct run_list *l)
{
	struct work *first = NULL, *own = NULL;
	bool passed = false;

	for (struct work *w = l->works; w; w = w->next) {
		if (is_of(w, l->group_client, l->group)) {
			passed = true;
			if (w->can_run && !l->is_resident && !own)
				own = w;
			continue;
		}
		if (w->can_run && passed)
			return w;
		if (w->can_run && !first)
			first = w;
	}
	return first ? first : own;
}

static struct work *resident_work(const struct run_list *l)
{
	for (struct work *w = l->works; w && l->is_resident; w = w->next)
		if (w->can_run && is_of(w, l->group_client, l->group))
			return w;
	return NULL;
}

/* Whether the resident group's channels are there and on, work or no work. */
static bool may_stay(struct sim *sim, const struct run_list *l)
{
	for (const struct work *w = l->works; w; w = w->next) {
		struct sim_object *channel = is_of(w, l->group_client, l->group) ? work_channel(sim, w) : NULL;

		if (channel && channel->enabled && channel->scheduled)
			return true;
	}
	return false;
}

static void leave(struct sim *sim, const struct sim_gpu *gpu, struct run_list *l)
{
	if (l->is_resident && l->has_started)
		sim_events_add(sim, gpu, TAG_END, l->pid, l->context, l->now_ns);
	l->is_resident = false;
}

static void enter(struct run_list *l, const struct work *w)
{
	l->is_resident = true;
	l->has_started = false;
	l->group_client = w->group_client;
	l->group = w->group;
	l->context = w->group & 0xffff;
	l->pid = w->pid;
	l->ready_ns = l->now_ns + SWITCH_NS;
	l->slice_end_ns = l->ready_ns + w->timeslice_ns;
}

/* One stretch in which nothing changes, to end_ns at the most. */
static void stretch(struct sim *sim, const struct sim_gpu *gpu, struct run_list *l, uint64_t end_ns)
{
	uint64_t until = end_ns;
	struct work *w, *other;

	if (l->is_resident && !may_stay(sim, l))
		leave(sim, gpu, l);
	w = resident_work(l);
	other = next_group(l);
	if (l->is_resident && l->now_ns < l->ready_ns) {
		until = l->ready_ns < until ? l->ready_ns : until;
		l->switching_ns += until - l->now_ns;
		l->now_ns = until;
		return;
	}
	if (l->is_resident && !l->has_started) {
		l->has_started = true;
		sim_events_add(sim, gpu, TAG_START, l->pid, l->context, l->now_ns);
	}
	if (other && (!w || l->now_ns >= l->slice_end_ns)) {
		leave(sim, gpu, l);
		enter(l, other);
		return;
	}
	if (!w) {
		l->now_ns = end_ns;
		return;
	}
	if (other && l->slice_end_ns < until)
		until = l->slice_end_ns;
	if (w->left_ns != SIM_ENDLESS && w->left_ns < until - l->now_ns)
		until = l->now_ns + w->left_ns;
	w->busy_ns += until - l->now_ns;
	l->total_ns += until - l->now_ns;
	if (w->left_ns != SIM_ENDLESS)
		w->left_ns -= until - l->now_ns;
	w->can_run = w->left_ns != 0;
	l->now_ns = until;
	/* alone, it begins the next timeslice at once */
	if (!other && l->now_ns >= l->slice_end_ns)
		l->slice_end_ns = l->now_ns + w->timeslice_ns;
}

void sim_sched_advance(struct sim *sim, const struct sim_gpu *gpu)
{
	struct run_list *l = &lists[gpu->index];
	uint64_t now = sim_now_ns();

	if (!l->now_ns)
		l->now_ns = now;
	look(sim, l);
	while (l->now_ns < now)
		stretch(sim, gpu, l, now);
}

void sim_sched_wait(struct sim *sim, const struct sim_gpu *gpu, bool disable)
{
	struct timespec time = { .tv_nsec = disable ? CLOSE_NS : OPEN_NS };

	nanosleep(&time, NULL);
	sim_sched_advance(sim, gpu);
}

static struct work *find_work(struct sim_control_call *call, const void *params)
{
	struct run_list *l = &lists[call->gpu->index];

	for (struct work *w = l->works; w; w = w->next)
		if (w->client == get_u32(params, SUBMIT_CLIENT) && w->channel == get_u32(params, SUBMIT_CHANNEL))
			return w;
	return NULL;
}

uint32_t sim_sched_submit(struct sim_control_call *call, void *params, uint32_t size)
{
	struct sim_client *client = sim_client_any(call->sim, get_u32(params, SUBMIT_CLIENT));
	struct sim_object *channel = client ? sim_object_find(client, get_u32(params, SUBMIT_CHANNEL)) : NULL;
	uint64_t ns = get_u64(params, SUBMIT_NS);
	struct run_list *l;
	struct work *w, **last;

	if (!channel || !channel->is_channel || !call->gpu || channel->gpu != call->gpu)
		return NV_ERR_INVALID_CHANNEL;
	sim_sched_advance(call->sim, call->gpu);
	l = &lists[call->gpu->index];
	w = find_work(call, params);
	if (!w) {
		w = calloc(1, sizeof(*w));
		if (!w)
			return NV_ERR_NO_MEMORY;
		w->client = w->group_client = client->handle;
		w->channel = channel->handle;
		w->group = channel->parent && channel->parent->is_group ? channel->parent->handle : channel->handle;
		w->pid = client->pid;
		for (last = &l->works; *last; last = &(*last)->next)
			;
		*last = w;
	}
	w->left_ns = ns == SIM_ENDLESS || w->left_ns == SIM_ENDLESS ? ns : w->left_ns + ns;
	return NV_OK;
}

uint32_t sim_sched_query(struct sim_control_call *call, void *params, uint32_t size)
{
	uint32_t channel = get_u32(params, QUERY_CHANNEL);
	uint64_t left = 0, busy = 0;
	struct run_list *l;

	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	sim_sched_advance(call->sim, call->gpu);
	l = &lists[call->gpu->index];
	for (const struct work *w = l->works; w; w = w->next) {
		if (w->client != get_u32(params, QUERY_CLIENT) || (channel && w->channel != channel))
			continue;
		left = left == SIM_ENDLESS || w->left_ns == SIM_ENDLESS ? SIM_ENDLESS : left + w->left_ns;
		busy += w->busy_ns;
	}
	put_u64(params, QUERY_LEFT, left);
	put_u64(params, QUERY_BUSY, busy);
	put_u64(params, QUERY_NOW, l->now_ns);
	put_u64(params, QUERY_SWITCHING, l->switching_ns);
	put_u64(params, QUERY_TOTAL, l->total_ns);
	return NV_OK;
}
