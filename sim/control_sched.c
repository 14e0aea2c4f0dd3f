/* SPDX-License-Identifier: Apache-2.0 */
/* Controls of channels and channel groups. Facts: open-gpu-kernel-modules 580.142, src/kernel/gpu/fifo/
 * kernel_fifo_ctrl.c and kernel_channel_group_api.c, sdk/nvidia/inc/ctrl/ctrla06c.h; that FIFO_DISABLE_CHANNELS takes
 * any client's channels from anyone was measured on an H200. */
#include <string.h>

#include "base/bytes.h"
#include "sim/rm.h"
#include "sim/runlist.h"

enum {
	TIMESLICE_SIZE = 8,
	STATE_CLIENT = 0, STATE_CHANNEL = 4, STATE_ANSWER = 8,	/* NV208F FIFO_GET_CHANNEL_STATE */
	STATE_BOUND = 1 << 0, STATE_ENABLED = 1 << 1, STATE_SCHEDULED = 1 << 2,
};

static struct sim_object *call_object(struct sim_control_call *call)
{
	return sim_object_find(call->client, call->object);
}

static uint32_t disable_channels(struct sim_control_call *call, void *params, uint32_t size)
{
	const uint8_t *p = params;
	uint32_t count = get_u32(params, DISABLE_COUNT);
	struct sim_object *channels[DISABLE_MAX];
	bool changes = false;

	if (count > DISABLE_MAX)
		return NV_ERR_INVALID_ARGUMENT;
	if (get_u64(params, DISABLE_EVENT))
		return NV_ERR_INSUFFICIENT_PERMISSIONS;
	for (uint32_t i = 0; i < count; i++) {
		struct sim_client *client = sim_client_any(call->sim, get_u32(params, DISABLE_CLIENTS + 4 * (size_t)i));

		channels[i] = client ? sim_object_find(client, get_u32(params, DISABLE_CHANNELS + 4 * (size_t)i)) : NULL;
		if (!channels[i] || !channels[i]->is_channel || channels[i]->gpu != call->gpu)
			return NV_ERR_INVALID_CHANNEL;
		changes |= channels[i]->enabled == !!p[DISABLE_DISABLE];
	}
	if (changes)
		sim_sched_wait(call->sim, call->gpu, p[DISABLE_DISABLE]);
	for (uint32_t i = 0; i < count; i++) {
		if (p[DISABLE_DISABLE])
			channels[i]->disabled++;
		else if (channels[i]->disabled)
			channels[i]->disabled--;
		sim_channel_set(channels[i], !channels[i]->disabled, channels[i]->scheduled);
	}
	return NV_OK;
}

/* To schedule also enables: a paused channel runs again. */
static void schedule_one(struct sim_object *channel, bool enable)
{
	if (enable)
		channel->disabled = 0;
	sim_channel_set(channel, channel->enabled || enable, enable);
}

static uint32_t schedule(struct sim_control_call *call, void *params, uint32_t size)
{
	struct sim_object *object = call_object(call);
	bool enable = *(const uint8_t *)params != 0;

	if (!object || (!object->is_group && !object->is_channel))
		return NV_ERR_INVALID_OBJECT_HANDLE;
	sim_sched_advance(call->sim, object->gpu);
	if (object->is_channel)
		schedule_one(object, enable);
	for (struct sim_object *o = call->client->objects; o; o = o->hh.next) {
		if (o->is_channel && o->parent == object)
			schedule_one(o, enable);
	}
	return NV_OK;
}

static uint32_t set_timeslice(struct sim_control_call *call, void *params, uint32_t size)
{
	struct sim_object *object = call_object(call);

	if (!object || !object->is_group)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	sim_sched_advance(call->sim, object->gpu);
	object->timeslice_us = get_u64(params, 0);
	return NV_OK;
}

/* What was asked for, not what the hardware was given. */
static uint32_t get_timeslice(struct sim_control_call *call, void *params, uint32_t size)
{
	struct sim_object *object = call_object(call);

	if (!object || !object->is_group)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	put_u64(params, 0, object->timeslice_us);
	return NV_OK;
}

static uint32_t group_info(struct sim_control_call *call, void *params, uint32_t size)
{
	struct sim_object *object = call_object(call);

	if (!object || !object->is_group)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	put_u32(params, 0, object->handle & 0x7ff);
	return NV_OK;
}

static uint32_t succeed(struct sim_control_call *call, void *params, uint32_t size)
{
	return NV_OK;
}

/* RS_ACCESS_NICE; an administrator has it (os-interface.c, osCheckAccess). */
static uint32_t interleave(struct sim_control_call *call, void *params, uint32_t size)
{
	return sim_is_admin(call->pid) ? NV_OK : NV_ERR_INSUFFICIENT_PERMISSIONS;
}

/* The client in the parameters is anyone's, too. */
static uint32_t channel_state(struct sim_control_call *call, void *params, uint32_t size)
{
	struct sim_client *client = sim_client_any(call->sim, get_u32(params, STATE_CLIENT));
	struct sim_object *channel = client ? sim_object_find(client, get_u32(params, STATE_CHANNEL)) : NULL;

	if (!channel || !channel->is_channel)
		return NV_ERR_INVALID_CHANNEL;
	put_u32(params, STATE_ANSWER, STATE_BOUND | (channel->enabled ? STATE_ENABLED : 0) |
				      (channel->scheduled ? STATE_SCHEDULED : 0));
	return NV_OK;
}

/* The clock of context-switch records. */
static uint32_t timer_get_time(struct sim_control_call *call, void *params, uint32_t size)
{
	put_u64(params, 0, sim_now_ns() + SIM_GPU_CLOCK_AHEAD_S * UINT64_C(1000000000));
	return NV_OK;
}

static uint32_t admin_only(struct sim_control_call *call, void *params, uint32_t size)
{
	return sim_is_admin(call->pid) ? NV_ERR_NOT_SUPPORTED : NV_ERR_INSUFFICIENT_PERMISSIONS;
}

const struct sim_control sim_sched_controls[] = {
	{ NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS, DISABLE_SIZE, disable_channels, "FIFO_DISABLE_CHANNELS" },
	{ NVA06C_CTRL_CMD_GPFIFO_SCHEDULE, 0, schedule, "NVA06C_GPFIFO_SCHEDULE" },
	{ 0xa06f0103, 0, schedule, "NVA06F_GPFIFO_SCHEDULE" },
	{ NVA06C_CTRL_CMD_SET_TIMESLICE, TIMESLICE_SIZE, set_timeslice, "NVA06C_SET_TIMESLICE" },
	{ 0xa06c0104, TIMESLICE_SIZE, get_timeslice, "NVA06C_GET_TIMESLICE" },
	{ 0xa06c0102, 4, succeed, "NVA06C_BIND" },
	{ 0xa06f0104, 4, succeed, "NVA06F_BIND" },
	{ 0xa06c0105, 8, succeed, "NVA06C_PREEMPT" },
	{ 0xa06c0106, 4, group_info, "NVA06C_GET_INFO" },
	{ 0xa06c0107, 4, interleave, "NVA06C_SET_INTERLEAVE_LEVEL" },
	{ 0xa06c0110, 1, interleave, "NVA06C_MAKE_REALTIME" },
	{ 0x208f0403, 16, channel_state, "NV208F_FIFO_GET_CHANNEL_STATE" },
	/* context-switch records */
	{ 0x20800403, 8, timer_get_time, "TIMER_GET_TIME" },
	{ 0x20801238, 24, sim_events_bind, "GR_FECS_BIND_EVTBUF_FOR_UID_V2" },
	{ 0x90cd0101, 8, sim_events_enable, "EVENT_BUFFER_ENABLE_EVENTS" },
	{ 0x90cd0102, 8, sim_events_get, "EVENT_BUFFER_UPDATE_GET" },
	{ 0x90cd0104, 0, sim_events_flush, "EVENT_BUFFER_FLUSH" },
	/* of the simulator alone: sim/runlist.h */
	{ SIM_CTRL_SUBMIT, SUBMIT_SIZE, sim_sched_submit, "SIM_SUBMIT" },
	{ SIM_CTRL_QUERY, QUERY_SIZE, sim_sched_query, "SIM_QUERY" },
	{ SIM_CTRL_READ_EVENTS, EVENTS_SIZE, sim_events_read, "SIM_READ_EVENTS" },
	/* administrators only; nothing is simulated behind them */
	{ 0x2080110c, 0, admin_only, "FIFO_GET_CHANNEL_MEM_INFO" },
	{ 0x20801119, 0, admin_only, "FIFO_GET_ALLOCATED_CHANNELS" },
	{ 0x801711, 0, admin_only, "FIFO_STOP_RUNLIST" },
	{ 0x801712, 0, admin_only, "FIFO_START_RUNLIST" },
	{ 0x20800194, 0, admin_only, "GPU_SET_COMPUTE_POLICY_CONFIG" },
	{ 0, 0, NULL, NULL },
};
