/* SPDX-License-Identifier: Apache-2.0 */
/* Event buffers with context-switch records: class 0x90cd. Facts: open-gpu-kernel-modules 580.142, cl90cd.h, cl90cdfecs.h,
 * ctrl90cd.h, src/kernel/gpu/gr/fecs_event_list.c (who sees what); a bound buffer has room for EVENTS_ROOM records. */
#include "sim/runlist.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"

enum {
	EVENTS_ROOM = 16384, RECORD_SIZE = 32, HEADER_SIZE = 32,
	BIND_BUFFER = 0, BIND_RECORD_SIZE = 4, BIND_ALL_USERS = 16, BIND_REASON = 20, REASON_NEED_ADMIN = 4,
	CLASS_EVENT_BUFFER = 0x90cd,
};

struct events {
	struct events *next;
	uint32_t client, object;	/* the event buffer */
	const struct sim_gpu *gpu;
	bool all_users;
	uid_t uid;
	uint32_t get, put;
	uint64_t dropped;
	uint16_t sequence;
	uint8_t records[EVENTS_ROOM * RECORD_SIZE];
};

static struct events *all_events;

/* Forget those whose objects are gone; find one. */
static struct events *events_find(struct sim *sim, uint32_t client_handle, uint32_t object)
{
	struct events **at = &all_events;
	struct events *found = NULL;

	while (*at) {
		struct events *e = *at;
		struct sim_client *client = sim_client_any(sim, e->client);

		if (!client || !sim_object_find(client, e->object)) {
			*at = e->next;
			free(e);
			continue;
		}
		if (e->client == client_handle && e->object == object)
			found = e;
		at = &e->next;
	}
	return found;
}

void sim_events_add(struct sim *sim, const struct sim_gpu *gpu, uint8_t tag, pid_t pid, uint32_t context, uint64_t now_ns)
{
	if (!all_events)
		return;
	events_find(sim, 0, 0);
	for (struct events *e = all_events; e; e = e->next) {
		uint8_t *record = e->records + (size_t)e->put * RECORD_SIZE;
		bool hidden = !e->all_users && sim_uid_of(pid) != e->uid;

		if (e->gpu != gpu)
			continue;
		if ((e->put + 1) % EVENTS_ROOM == e->get) {
			e->dropped++;
			e->sequence++;
			continue;
		}
		memset(record, 0, RECORD_SIZE);
		record[8] = tag;
		record[10] = (uint8_t)e->sequence;
		record[11] = (uint8_t)(e->sequence >> 8);
		put_u32(record, 12, hidden ? 0 : context);
		put_u32(record, 16, hidden ? 0 : (uint32_t)pid);
		put_u64(record, 24, now_ns + SIM_GPU_CLOCK_AHEAD_S * UINT64_C(1000000000));
		e->sequence++;
		e->put = (e->put + 1) % EVENTS_ROOM;
	}
}

/* NV2080_CTRL_CMD_GR_FECS_BIND_EVTBUF_FOR_UID_V2 */
uint32_t sim_events_bind(struct sim_control_call *call, void *params, uint32_t size)
{
	struct sim_object *object = sim_object_find(call->client, get_u32(params, BIND_BUFFER));
	bool all_users = ((const uint8_t *)params)[BIND_ALL_USERS];
	struct events *e;

	if (!object || object->class_id != CLASS_EVENT_BUFFER || !call->gpu)
		return NV_ERR_INVALID_ARGUMENT;
	if (all_users && !sim_is_admin(call->pid)) {
		put_u32(params, BIND_REASON, REASON_NEED_ADMIN);
		return NV_ERR_INSUFFICIENT_PERMISSIONS;
	}
	e = events_find(call->sim, call->client->handle, object->handle);
	if (!e) {
		e = calloc(1, sizeof(*e));
		if (!e)
			return NV_ERR_NO_MEMORY;
		e->next = all_events;
		all_events = e;
	}
	e->client = call->client->handle;
	e->object = object->handle;
	e->gpu = call->gpu;
	e->all_users = all_users;
	e->uid = sim_uid_of(sim_tgid(call->pid));
	return NV_OK;
}

uint32_t sim_events_enable(struct sim_control_call *call, void *params, uint32_t size)
{
	return call->object_class == CLASS_EVENT_BUFFER ? NV_OK : NV_ERR_INVALID_OBJECT_HANDLE;
}

uint32_t sim_events_get(struct sim_control_call *call, void *params, uint32_t size)
{
	struct events *e = events_find(call->sim, call->client->handle, call->object);

	if (!e || get_u32(params, 0) >= EVENTS_ROOM)
		return NV_ERR_INVALID_ARGUMENT;
	e->get = get_u32(params, 0);
	return NV_OK;
}

uint32_t sim_events_flush(struct sim_control_call *call, void *params, uint32_t size)
{
	struct events *e = events_find(call->sim, call->client->handle, call->object);

	if (e)
		sim_sched_advance(call->sim, e->gpu);
	return NV_OK;
}

uint32_t sim_events_read(struct sim_control_call *call, void *params, uint32_t size)
{
	struct events *e = events_find(call->sim, call->client->handle, call->object);
	uint64_t records = get_u64(params, EVENTS_RECORDS);
	uint32_t from = get_u32(params, EVENTS_FROM);
	uint8_t header[HEADER_SIZE] = { 0 };
	int r = 0;

	if (!e || from >= EVENTS_ROOM)
		return NV_ERR_INVALID_ARGUMENT;
	put_u32(header, 0, e->get);
	put_u32(header, 4, e->put);
	put_u64(header, 16, e->dropped);
	if (from > e->put) {
		r = call->write(call, records + (uint64_t)from * RECORD_SIZE, e->records + (size_t)from * RECORD_SIZE,
				(size_t)(EVENTS_ROOM - from) * RECORD_SIZE);
		from = 0;
	}
	if (r == 0 && from < e->put)
		r = call->write(call, records + (uint64_t)from * RECORD_SIZE, e->records + (size_t)from * RECORD_SIZE,
				(size_t)(e->put - from) * RECORD_SIZE);
	if (r == 0)
		r = call->write(call, get_u64(params, EVENTS_HEADER), header, sizeof(header));
	return r < 0 ? NV_ERR_INVALID_ADDRESS : NV_OK;
}
