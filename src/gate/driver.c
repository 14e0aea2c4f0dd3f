/* SPDX-License-Identifier: Apache-2.0 */
/* The driver of the gates: ledgers in, gates out. */
#include "gate/driver.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "abi/calls.h"
#include "base/clock.h"
#include "gate/internal.h"

#define MS UINT64_C(1000000)
#define LOOK_NS (100 * MS)	/* how often settings, processes and channels are looked at anyhow */
/* How often the meter is asked who wants the GPU, where there are several slices: while several do, or one goes before
 * the others; while one does; while none does. A poll costs 30 us. */
#define METER_BUSY_NS (3 * MS)
#define METER_ALONE_NS (5 * MS)
#define METER_IDLE_NS (20 * MS)
#define LOOK_CLOSED_NS (20 * MS)	/* the same while a gate is closed: new channels are born open */
#define CARRY_NS MS		/* of the time with an open gate, what a later figure may still be for */
#define INSIST_NS (8 * MS)
#define BACKOFF_NS (1000 * MS)	/* after a call that failed: a wedged GPU must not be called in a loop */

enum { STALL_MS = 5000 };

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static bool is_needed(uint32_t cap, uint32_t weight, uint32_t priority, uint32_t frozen)
{
	return (cap && cap < 1000) || weight || priority || frozen;
}

bool gate_is_needed(const struct ledger *ledger)
{
	return is_needed(load_u32(&ledger->compute_max_permille), load_u32(&ledger->compute_weight),
			 load_u32(&ledger->compute_priority), load_u32(&ledger->frozen));
}

static int control(void *arg, uint32_t gpu, void *params, uint32_t size)
{
	struct rm *rm = arg;

	return rm_control(rm, rm->gpus[gpu].subdevice_handle, NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS, params, size);
}

int gate_driver_new(struct gate_driver **ret_driver, const struct gate_options *options, struct error *err)
{
	struct gate_driver *d = calloc(1, sizeof(*d));
	int keep[GUARD_KEEP];
	uint32_t count = 0;
	int r;

	if (!d)
		return error_set(err, -ENOMEM, "out of memory");
	d->options = *options;
	r = rm_open(&d->rm, err);
	if (r < 0) {
		free(d);
		return r;
	}
	keep[count++] = d->rm.ctl;
	for (uint32_t i = 0; i < d->rm.gpu_count; i++)
		keep[count++] = d->rm.gpu_fd[i];
	d->port = (struct gate_port){ .control = control, .arg = &d->rm };
	r = guard_start(&d->guard, d->rm.gpu_count, &d->port, keep, count,
			options->stall_ms ? options->stall_ms : STALL_MS);
	if (r < 0) {
		rm_close(&d->rm);
		free(d);
		return error_set(err, r, "cannot start the guard of the gates: %s", strerror(-r));
	}
	for (uint32_t i = 0; i < d->rm.gpu_count; i++) {
		arbiter_init(&d->desks[i].arbiter, options->latency_ns, monotonic_ns());
		meter_init(&d->desks[i].meter);
		d->desks[i].meter.saving_ns = METER_SAVING_NS;
	}
	*ret_driver = d;
	return 0;
}

/* The slice's figures go on from what its ledger says: whoever measures it from now on begins at 0. */
static void rebase(struct lane *lane, const struct ledger_compute *now)
{
	lane->base.busy_ns = __atomic_load_n(&now->busy_ns, __ATOMIC_RELAXED);
	lane->base.throttled_ns = __atomic_load_n(&now->throttled_ns, __ATOMIC_RELAXED);
	lane->base.switches = __atomic_load_n(&now->switches, __ATOMIC_RELAXED);
}

void gate_reset_desk(struct gate_driver *d, uint32_t gpu, bool is_followed)
{
	struct desk *desk = &d->desks[gpu];

	meter_reader_close(&desk->reader);
	meter_init(&desk->meter);
	desk->meter.saving_ns = METER_SAVING_NS;
	arbiter_init(&desk->arbiter, d->options.latency_ns, monotonic_ns());
	desk->tried_meter = desk->pids_fit = desk->is_urgent = false;
	desk->pids_at_ns = 0;
	desk->told_timeslice_us = 0;
	desk->is_followed = is_followed;
	/* who led may have opened once too often what we closed */
	for (uint32_t i = 0; i < d->guard.shared->sets[gpu].count; i++)
		if (d->guard.shared->sets[gpu].channels[i].state == GATE_CLOSED)
			d->guard.shared->sets[gpu].channels[i].state = GATE_UNSURE;
	for (int i = 0; i < ARBITER_SLICES; i++) {
		struct lane *lane = &desk->lanes[i];

		if (!lane->used || lane->is_remote)
			continue;
		lane->raw_ns = lane->busy_ns = lane->shown_ns = lane->possible_ns = lane->since_ns = lane->switches = 0;
		lane->measured = false;
		lane->wants = (struct wants){ 0 };
		rebase(lane, &d->slices[i].ledger->ledger->compute[lane->gpu]);
		d->slices[i].is_set = false;	/* the new arbiter knows nothing of it */
	}
}

int gate_find_gpu(const struct rm *rm, uint32_t gpu_id)
{
	for (uint32_t i = 0; i < rm->gpu_count; i++)
		if (rm->gpus[i].gpu.gpu_id == gpu_id)
			return (int)i;
	return -1;
}

void gate_put_figures(struct ledger_compute *to, const struct lane *lane, const struct gate_figures *figures)
{
	__atomic_store_n(&to->busy_ns, lane->base.busy_ns + figures->busy_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&to->throttled_ns, lane->base.throttled_ns + figures->throttled_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&to->switches, lane->base.switches + figures->switches, __ATOMIC_RELAXED);
	__atomic_store_n(&to->source, figures->source, __ATOMIC_RELAXED);
}

int gate_free_slice(const struct gate_driver *d)
{
	int slice = 0;

	while (slice < ARBITER_SLICES && slice_is_used(&d->slices[slice]))
		slice++;
	return slice < ARBITER_SLICES ? slice : -ENOSPC;
}

int gate_driver_add(struct gate_driver *d, struct ledger_handle *ledger)
{
	struct account *account = &ledger->ledger->account;
	int slice = gate_free_slice(d);

	if (slice < 0)
		return slice;
	d->slices[slice] = (struct slice){ .ledger = ledger };
	for (uint32_t i = 0; i < account->gpu_count && i < ACCOUNT_GPUS; i++) {
		int gpu = account->limit_bytes[i] ? gate_find_gpu(&d->rm, ledger->ledger->gpus[i].gpu_id) : -1;

		if (gpu < 0)
			continue;
		d->desks[gpu].lanes[slice] = (struct lane){ .gpu = i, .used = true, .open = true,
							    .timeslice_us = load_u32(&ledger->ledger->compute[i].timeslice_us) };
		if (!d->desks[gpu].lanes[slice].timeslice_us)
			d->desks[gpu].lanes[slice].timeslice_us = TIMESLICE_USUAL_US;
		rebase(&d->desks[gpu].lanes[slice], &ledger->ledger->compute[i]);
	}
	return slice;
}

void gate_driver_remove(struct gate_driver *d, int slice)
{
	if (slice < 0 || slice >= ARBITER_SLICES || !slice_is_used(&d->slices[slice]))
		return;
	for (uint32_t i = 0; i < d->rm.gpu_count; i++) {
		struct desk *desk = &d->desks[i];

		if (!desk->lanes[slice].used)
			continue;
		gate_forget(&d->guard.shared->sets[i], &d->port, (uint32_t)slice);
		if (!desk->lanes[slice].is_remote)
			gate_set_timeslices(d, i, slice, TIMESLICE_USUAL_US, 0);
		arbiter_unset(&desk->arbiter, (uint32_t)slice, monotonic_ns());
		desk->lanes[slice].used = false;
		for (uint32_t k = 0; k < desk->meter.pid_count; k++)
			if (desk->meter.pids[k].slice == slice)
				desk->meter.pids[k].slice = -1;
		desk->meter.slice_ns[slice] = 0;
	}
	free(d->slices[slice].member);
	d->slices[slice] = (struct slice){ 0 };
}

/* Settings of a slice that changed, to all its arbiters. What cannot be right (a tenant can write to its ledger) is put
 * as if it were not set: a cap of nonsense must not become none, so it becomes the smallest. */
static struct arbiter_settings read_settings(const struct gate_driver *d, const struct slice *s)
{
	const struct gate_member *m = s->member;
	const struct ledger *l = m ? NULL : s->ledger->ledger;
	struct arbiter_settings settings = {
		.max_permille = m ? m->max_permille : load_u32(&l->compute_max_permille),
		.weight = m ? m->weight : load_u32(&l->compute_weight),
		.priority = m ? m->priority : load_u32(&l->compute_priority),
		.phase_permille = d->options.phase_permille,
		.frozen = m ? m->frozen != 0 : load_u32(&l->frozen) != 0,
	};

	if (settings.max_permille > 1000)
		settings.max_permille = 1;
	if (settings.weight > ARBITER_WEIGHT_MAX)
		settings.weight = 1;
	return settings;
}

static void take_settings(struct gate_driver *d, int slice, uint64_t now)
{
	struct slice *s = &d->slices[slice];
	uint32_t generation = s->ledger ? load_u32(&s->ledger->ledger->generation) : 0;
	struct arbiter_settings settings = read_settings(d, s);

	if (s->is_set && generation == s->generation)
		return;
	for (uint32_t i = 0; i < d->rm.gpu_count; i++) {
		if (!d->desks[i].lanes[slice].used)
			continue;
		d->desks[i].is_urgent |= d->desks[i].arbiter.slices[slice].settings.frozen != settings.frozen;
		arbiter_set(&d->desks[i].arbiter, (uint32_t)slice, &settings, now);
		/* the guard in the tenant's calls counts up, too, when a channel was scheduled and so opened */
		d->desks[i].lanes[slice].look_at_ns = 0;
	}
	s->generation = generation;
	s->is_set = true;
}

/* The shortest latency that any slice asks for. */
static void take_latency(struct gate_driver *d, uint64_t now)
{
	uint64_t latency = d->options.latency_ns;

	for (int i = 0; i < ARBITER_SLICES; i++) {
		uint64_t theirs = d->slices[i].member ? d->slices[i].member->latency_us * UINT64_C(1000) : 0;

		if (theirs && (!latency || theirs < latency))
			latency = theirs;
	}
	for (uint32_t i = 0; i < d->rm.gpu_count; i++)
		arbiter_latency(&d->desks[i].arbiter, latency, now);
}

/* The account is read under its lock, but only when it can have changed. */
static void collect(struct gate_driver *d, uint32_t gpu, int slice, uint64_t now)
{
	struct lane *lane = &d->desks[gpu].lanes[slice];
	struct ledger_handle *h = d->slices[slice].ledger;
	struct account *account;
	sigset_t saved;
	int count;

	if (!h)		/* a member's: it tells */
		return;
	account = &h->ledger->account;
	if (now < lane->look_at_ns && load_u32(&account->hold_count) == lane->seen_holds &&
	    load_u32(&account->hold_free) == lane->seen_free)
		return;
	lane->look_at_ns = now + LOOK_NS;
	ledger_lock(h, &saved);
	count = gate_collect(&d->guard.shared->sets[gpu], (uint32_t)slice, account, lane->gpu);
	lane->seen_holds = account->hold_count;
	lane->seen_free = account->hold_free;
	ledger_unlock(h, &saved);
	/* too many: those that found a place are many enough to count as some */
	lane->channels = count < 0 ? GATE_CHANNELS : (uint32_t)count;
	h->ledger->compute[lane->gpu].channels = lane->channels;
}

static void assign_pid(struct desk *desk, int slice, int32_t pid)
{
	if (pid > 0 && meter_assign(&desk->meter, (uint32_t)pid, slice) < 0)
		desk->lanes[slice].has_strangers = true;
}

/* Whose processes are whose. */
static void assign_pids(struct gate_driver *d, struct desk *desk)
{
	meter_doubt(&desk->meter);
	for (int slice = 0; slice < ARBITER_SLICES; slice++) {
		const struct gate_member *m = d->slices[slice].member;
		struct ledger_handle *h = d->slices[slice].ledger;

		if (!desk->lanes[slice].used)
			continue;
		desk->lanes[slice].has_strangers = false;
		for (uint32_t i = 0; m && i < m->pid_count; i++)
			assign_pid(desk, slice, m->pids[i]);
		for (uint16_t i = 0; h && i < LEDGER_SLOTS; i++) {
			int32_t pid = 0;

			if (load_u32(&h->ledger->slots[i].state) == SLOT_LIVE)
				pid = ledger_slot_pid(h, i);
			assign_pid(desk, slice, pid);
		}
	}
}

/* Ask the meter, and give each slice its figure. Returns whether there is an exact one to be had at all. */
static bool measure(struct gate_driver *d, struct desk *desk, uint32_t gpu, uint64_t now)
{
	bool is_due = now >= desk->pids_at_ns;
	struct error err;
	int result;

	if (!desk->tried_meter && !d->options.no_meter) {
		desk->tried_meter = true;
		if (meter_reader_open(&desk->reader, &d->rm, gpu, &err) == 0)
			desk->reader.refresh = d->options.refresh;
	}
	if (desk->reader.source == METER_NOTHING)
		return false;
	if (is_due)
		assign_pids(d, desk);
	result = meter_reader_poll(&desk->reader, &desk->meter, now);
	if (is_due) {
		/* after the last records of those that have ended */
		meter_forget(&desk->meter);
		desk->pids_at_ns = now + LOOK_NS;
	}
	return result >= 0 && desk->reader.source != METER_SAMPLES;
}

static bool is_realtime(const struct desk *desk, int slice)
{
	return desk->arbiter.slices[slice].settings.priority == ARBITER_REALTIME;
}

static uint32_t timeslice_for(const struct desk *desk, int slice)
{
	if (is_realtime(desk, slice))
		return TIMESLICE_REALTIME_US;
	for (int i = 0; i < ARBITER_SLICES; i++)
		if (desk->lanes[i].used && desk->lanes[i].channels && is_realtime(desk, i))
			return TIMESLICE_BESIDE_US;
	return TIMESLICE_USUAL_US;
}

/* What this driver itself has measured. */
static struct gate_figures own_figures(const struct desk *desk, int slice)
{
	const struct lane *lane = &desk->lanes[slice];
	bool sampled = desk->reader.source == METER_SAMPLES;

	return (struct gate_figures){
		.busy_ns = sampled ? desk->meter.slice_ns[slice] : lane->shown_ns,
		.throttled_ns = desk->arbiter.slices[slice].throttled_ns,
		.switches = lane->switches,
		.source = lane->measured || sampled ? (uint32_t)desk->reader.source : 0,
		.timeslice_us = timeslice_for(desk, slice),
	};
}

static void publish(struct gate_driver *d, struct desk *desk, uint32_t gpu, int slice, uint64_t now)
{
	struct lane *lane = &desk->lanes[slice];
	struct gate_figures figures = own_figures(desk, slice);

	if (!lane->is_remote) {
		gate_put_figures(&d->slices[slice].ledger->ledger->compute[lane->gpu], lane, &figures);
	} else if (now >= lane->report_at_ns && d->options.report) {
		d->options.report(d->options.arg, slice, d->rm.gpus[gpu].gpu.gpu_id, &figures);
		lane->report_at_ns = now + LOOK_NS;
	}
}

/* What is short goes before others by its timeslice, and the gates stay where they are: to close and open them takes longer than
 * most requests. They move for a realtime slice that has kept the GPU busy for INSIST_NS, until it leaves it free half the
 * time. */
static bool insists(struct lane *lane, uint64_t used, uint64_t now)
{
	uint64_t elapsed = now - lane->seen_ns;
	bool has = lane->busy_since_ns && now - lane->busy_since_ns >= INSIST_NS;

	lane->seen_ns = now;
	if (!lane->open)	/* others have their turn */
		return has;
	if (used < elapsed / 10 * (has ? 5 : 7))
		lane->busy_since_ns = 0;
	else if (!lane->busy_since_ns)
		lane->busy_since_ns = now;
	return lane->busy_since_ns && now - lane->busy_since_ns >= INSIST_NS;
}

static void tell_arbiter(struct desk *desk, int slice, bool exact, bool alone, uint64_t now)
{
	struct lane *lane = &desk->lanes[slice];
	bool wants = lane->channels != 0;
	uint64_t raw, sure, used = 0;

	if (lane->since_ns && lane->open && now > lane->since_ns)
		lane->possible_ns += now - lane->since_ns;
	if (now > lane->since_ns)
		lane->since_ns = now;
	desk->pids_fit |= exact && meter_has_seen(&desk->meter, (uint32_t)slice);
	if (exact && desk->pids_fit && !lane->has_strangers) {
		raw = meter_there_ns(&desk->meter, (uint32_t)slice, now);
		if (raw > lane->raw_ns) {
			used = min_u64(raw - lane->raw_ns, lane->possible_ns);
			lane->raw_ns = raw;
		}
		if (meter_is_idle(&desk->meter, (uint32_t)slice))
			used = 0;
		lane->busy_ns += used;
		sure = meter_slice_ns(&desk->meter, (uint32_t)slice, now) - meter_unproved_ns(&desk->meter, (uint32_t)slice, now);
		if (sure > lane->shown_ns && sure < UINT64_MAX / 2)
			lane->shown_ns = sure;
		/* a record may come later than the look that should have seen it */
		lane->possible_ns = min_u64(lane->possible_ns - used, CARRY_NS);
		lane->measured = true;
		arbiter_measured(&desk->arbiter, (uint32_t)slice, lane->busy_ns, now);
		if (!alone && is_realtime(desk, slice))
			wants = wants && insists(lane, used, now);
		else if (!alone)
			wants = wants && wants_update(&lane->wants, lane->open, lane->busy_ns,
						       meter_stay_ns(&desk->meter, (uint32_t)slice, now), now);
	}
	arbiter_wants(&desk->arbiter, (uint32_t)slice, wants, now);
}

/* open: gates that are to be. passed_over: those that somebody else keeps closed; we open them if we closed them. */
static int move_gates(struct gate_driver *d, struct desk *desk, uint32_t gpu, uint64_t open, uint64_t passed_over, uint64_t now)
{
	struct gate_set *set = &d->guard.shared->sets[gpu];
	uint64_t after;
	int result;

	if (now < desk->apply_after_ns)
		return 0;
	result = gate_apply(set, &d->port, open | passed_over, now);
	if (result < 0)
		desk->apply_after_ns = now + BACKOFF_NS;
	after = monotonic_ns();
	for (int i = 0; i < ARBITER_SLICES; i++) {
		struct lane *lane = &desk->lanes[i];
		bool is_open = open >> i & 1;

		if (!lane->used)
			continue;
		/* a gate closes when the call returns, and opens any time before */
		if ((lane->open || is_open) && after > lane->since_ns)
			lane->possible_ns += after - lane->since_ns;
		lane->since_ns = after;
		lane->switches += lane->open != is_open;
		lane->open = is_open;
	}
	return result;
}

/* How long the meter can be left alone. */
static uint64_t meter_pause(const struct desk *desk)
{
	int wanting = 0;
	bool ranks = false;

	for (int i = 0; i < ARBITER_SLICES; i++) {
		const struct arbiter_slice *s = &desk->arbiter.slices[i];

		wanting += s->used && s->wants;
		ranks |= s->used && s->settings.priority != ARBITER_NORMAL;
	}
	if (!wanting)
		return METER_IDLE_NS;
	return wanting > 1 || ranks ? METER_BUSY_NS : METER_ALONE_NS;
}

/* Somebody else moves the gates, but a paused slice closes its own as well: what is closed twice is opened twice. */
static int step_followed(struct gate_driver *d, uint32_t gpu, uint64_t now, uint64_t *next)
{
	struct desk *desk = &d->desks[gpu];
	uint64_t open = 0;

	for (int i = 0; i < ARBITER_SLICES; i++) {
		struct lane *lane = &desk->lanes[i];

		if (!lane->used || lane->is_remote)
			continue;
		collect(d, gpu, i, now);
		if (!load_u32(&d->slices[i].ledger->ledger->frozen))
			open |= UINT64_C(1) << i;
	}
	if (!open)
		*next = min_u64(*next, now + LOOK_CLOSED_NS);
	for (int i = 0; i < ARBITER_SLICES; i++)
		if (desk->lanes[i].used && desk->told_timeslice_us)
			gate_set_timeslices(d, gpu, i, desk->told_timeslice_us, now);
	return move_gates(d, desk, gpu, open, 0, now);
}

static bool slice_is_needy(const struct slice *s)
{
	const struct gate_member *m = s->member;

	return m ? is_needed(m->max_permille, m->weight, m->priority, m->frozen) : gate_is_needed(s->ledger->ledger);
}

/* They keep their gates closed themselves. */
static uint64_t paused_members(const struct gate_driver *d)
{
	uint64_t paused = 0;

	for (int i = 0; i < ARBITER_SLICES; i++)
		if (d->slices[i].member && d->slices[i].member->frozen)
			paused |= UINT64_C(1) << i;
	return paused;
}

static int step_gpu(struct gate_driver *d, uint32_t gpu, uint64_t now, uint64_t *next)
{
	struct desk *desk = &d->desks[gpu];
	int count = 0, needy = 0, result;
	bool exact = false;
	uint64_t open, at;

	if (desk->is_followed)
		return step_followed(d, gpu, now, next);
	if (desk->is_urgent) {
		desk->is_urgent = false;
		*next = now;
		return move_gates(d, desk, gpu, arbiter_step(&desk->arbiter, now, &at), paused_members(d), now);
	}
	for (int i = 0; i < ARBITER_SLICES; i++) {
		if (!desk->lanes[i].used)
			continue;
		collect(d, gpu, i, now);
		count++;
		needy += slice_is_needy(&d->slices[i]);
	}
	if (!count)
		return 0;
	/* a lone slice without a setting, or a machine full of such, costs a look at its ledger now and then */
	if (needy)
		exact = measure(d, desk, gpu, now);
	for (int i = 0; i < ARBITER_SLICES; i++)
		if (desk->lanes[i].used)
			tell_arbiter(desk, i, exact, count == 1, now);
	open = needy ? arbiter_step(&desk->arbiter, now, &at) : UINT64_MAX;
	result = move_gates(d, desk, gpu, open, paused_members(d), now);
	for (int i = 0; i < ARBITER_SLICES; i++) {
		if (!desk->lanes[i].used)
			continue;
		publish(d, desk, gpu, i, now);
		if (!desk->lanes[i].is_remote)
			gate_set_timeslices(d, gpu, i, timeslice_for(desk, i), now);
	}
	if (needy)
		*next = min_u64(*next, at);
	for (int i = 0; i < ARBITER_SLICES; i++)
		if (desk->lanes[i].used && !desk->lanes[i].is_remote && !desk->lanes[i].open)
			*next = min_u64(*next, now + LOOK_CLOSED_NS);
	if (exact && count > 1)
		*next = min_u64(*next, now + meter_pause(desk));
	return result;
}

/* For who waits until a change has its effect. */
static void tell_applied(struct gate_driver *d)
{
	for (int i = 0; i < ARBITER_SLICES; i++) {
		struct ledger *l = d->slices[i].ledger ? d->slices[i].ledger->ledger : NULL;

		if (!l || __atomic_load_n(&l->applied, __ATOMIC_RELAXED) == d->slices[i].generation)
			continue;
		__atomic_store_n(&l->applied, d->slices[i].generation, __ATOMIC_RELEASE);
		syscall(SYS_futex, &l->applied, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	}
}

int gate_driver_step(struct gate_driver *d, uint64_t now_ns, uint64_t *ret_next_ns)
{
	bool all_moved = true;
	int result = 0;

	*ret_next_ns = now_ns + LOOK_NS;
	/* if the guard opened everything meanwhile, the sets say so, and what must be closed is closed again below */
	guard_beat(&d->guard);
	take_latency(d, now_ns);
	for (int i = 0; i < ARBITER_SLICES; i++)
		if (slice_is_used(&d->slices[i]))
			take_settings(d, i, now_ns);
	for (uint32_t i = 0; i < d->rm.gpu_count; i++) {
		int r = step_gpu(d, i, now_ns, ret_next_ns);

		if (!result)
			result = r;
		all_moved &= r == 0 && now_ns >= d->desks[i].apply_after_ns;
	}
	if (all_moved)
		tell_applied(d);
	return result;
}

enum meter_source gate_driver_source(const struct gate_driver *d, int slice, uint32_t gpu)
{
	if (slice < 0 || slice >= ARBITER_SLICES)
		return METER_NOTHING;
	for (uint32_t i = 0; i < d->rm.gpu_count; i++)
		if (d->desks[i].lanes[slice].used && d->desks[i].lanes[slice].gpu == gpu)
			return d->desks[i].reader.source;
	return METER_NOTHING;
}

void gate_driver_free(struct gate_driver *d)
{
	if (!d)
		return;
	for (uint32_t i = 0; i < d->rm.gpu_count; i++) {
		gate_open_all(&d->guard.shared->sets[i], &d->port, GATE_OPEN);
		for (int k = 0; k < ARBITER_SLICES; k++)
			if (d->desks[i].lanes[k].used && !d->desks[i].lanes[k].is_remote)
				gate_set_timeslices(d, i, k, TIMESLICE_USUAL_US, 0);
	}
	guard_stop(&d->guard);
	for (uint32_t i = 0; i < d->rm.gpu_count; i++)
		meter_reader_close(&d->desks[i].reader);
	for (int i = 0; i < ARBITER_SLICES; i++)
		free(d->slices[i].member);
	rm_close(&d->rm);
	free(d);
}

