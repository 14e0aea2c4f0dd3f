/* SPDX-License-Identifier: Apache-2.0 */
/* Members: slices of others that this driver decides for, and the same from the other side. */
#include <errno.h>
#include <stdlib.h>

#include "gate/internal.h"

int gate_driver_join(struct gate_driver *d, const struct gate_member *about)
{
	int slice = gate_free_slice(d);
	struct gate_member *member;

	if (slice < 0)
		return slice;
	member = calloc(1, sizeof(*member));
	if (!member)
		return -ENOMEM;
	d->slices[slice] = (struct slice){ .member = member };
	for (uint32_t i = 0; i < about->gpu_count && i < ACCOUNT_GPUS; i++) {
		int gpu = gate_find_gpu(&d->rm, about->gpus[i].gpu_id);

		if (gpu >= 0)
			d->desks[gpu].lanes[slice] = (struct lane){ .gpu = i, .used = true, .open = true, .is_remote = true };
	}
	gate_driver_update(d, slice, about);
	return slice;
}

/* The GPUs of a member stay as they were when it joined. */
void gate_driver_update(struct gate_driver *d, int slice, const struct gate_member *about)
{
	struct gate_member *member = d->slices[slice].member;
	uint32_t gpu_count = member->gpu_count ? member->gpu_count : about->gpu_count;

	*member = *about;
	member->gpu_count = gpu_count < ACCOUNT_GPUS ? gpu_count : ACCOUNT_GPUS;
	if (member->pid_count > LEDGER_SLOTS)
		member->pid_count = LEDGER_SLOTS;
	d->slices[slice].is_set = false;
	for (uint32_t i = 0; i < d->rm.gpu_count; i++) {
		struct lane *lane = &d->desks[i].lanes[slice];

		if (!lane->used)
			continue;
		lane->channels = member->gpus[lane->gpu].channels;
		d->desks[i].pids_at_ns = 0;
	}
}

void gate_driver_describe(struct gate_driver *d, int slice, struct gate_member *ret_member)
{
	struct ledger_handle *h = d->slices[slice].ledger;
	const struct ledger *l = h->ledger;

	memset(ret_member, 0, sizeof(*ret_member));
	ret_member->max_permille = load_u32(&l->compute_max_permille);
	ret_member->weight = load_u32(&l->compute_weight);
	ret_member->priority = load_u32(&l->compute_priority);
	ret_member->frozen = load_u32(&l->frozen);
	ret_member->latency_us = (uint32_t)(d->options.latency_ns / 1000);
	for (uint32_t i = 0; i < d->rm.gpu_count; i++) {
		const struct lane *lane = &d->desks[i].lanes[slice];

		if (!lane->used)
			continue;
		ret_member->gpus[ret_member->gpu_count].gpu_id = d->rm.gpus[i].gpu.gpu_id;
		ret_member->gpus[ret_member->gpu_count++].channels = lane->channels;
	}
	for (uint16_t i = 0; i < LEDGER_SLOTS; i++) {
		int32_t pid = load_u32(&l->slots[i].state) == SLOT_LIVE ? ledger_slot_pid(h, i) : 0;

		if (pid > 0)
			ret_member->pids[ret_member->pid_count++] = pid;
	}
}

void gate_driver_channels(struct gate_driver *d, int slice, uint32_t gpu_id, const struct gate_about *list, uint32_t count,
			  bool is_first, bool is_last)
{
	int gpu = gate_find_gpu(&d->rm, gpu_id);

	if (gate_driver_decides(d, slice, gpu_id))
		gate_take(&d->guard.shared->sets[gpu], (uint32_t)slice, list, count, is_first, is_last);
}

bool gate_driver_decides(const struct gate_driver *d, int slice, uint32_t gpu_id)
{
	int gpu = gate_find_gpu(&d->rm, gpu_id);

	return gpu >= 0 && d->desks[gpu].lanes[slice].used && d->desks[gpu].lanes[slice].is_remote;
}

const struct gate_set *gate_driver_set(const struct gate_driver *d, uint32_t gpu_id)
{
	int gpu = gate_find_gpu(&d->rm, gpu_id);

	return gpu < 0 ? NULL : &d->guard.shared->sets[gpu];
}

void gate_driver_follow(struct gate_driver *d, uint32_t gpu_id)
{
	int gpu = gate_find_gpu(&d->rm, gpu_id);

	if (gpu < 0)
		return;
	gate_reset_desk(d, (uint32_t)gpu, true);
}

bool gate_driver_is_followed(const struct gate_driver *d)
{
	bool followed = false;

	for (uint32_t i = 0; i < d->rm.gpu_count; i++)
		followed |= d->desks[i].is_followed;
	return followed;
}

void gate_driver_lead(struct gate_driver *d)
{
	for (uint32_t i = 0; i < d->rm.gpu_count; i++) {
		if (d->desks[i].is_followed)
			gate_reset_desk(d, i, false);
	}
}

void gate_driver_figures(struct gate_driver *d, uint32_t gpu_id, const struct gate_figures *figures)
{
	int gpu = gate_find_gpu(&d->rm, gpu_id);

	if (gpu >= 0 && (figures->timeslice_us == TIMESLICE_USUAL_US || figures->timeslice_us == TIMESLICE_REALTIME_US ||
			 figures->timeslice_us == TIMESLICE_BESIDE_US))
		d->desks[gpu].told_timeslice_us = figures->timeslice_us;
	for (int slice = 0; gpu >= 0 && slice < ARBITER_SLICES; slice++) {
		const struct lane *lane = &d->desks[gpu].lanes[slice];

		if (lane->used && !lane->is_remote)
			gate_put_figures(&d->slices[slice].ledger->ledger->compute[lane->gpu], lane, figures);
	}
}
