/* SPDX-License-Identifier: Apache-2.0 */
/* Context-switch records into GPU time. */
#include "meter/meter.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

/* Behind the record header of 8 bytes: NV_EVENT_BUFFER_FECS_RECORD_V2 (cl90cdfecs.h). V1 has a pid of 64 bits instead of
 * pid and instance: the same bytes while the instances are 0. */
enum {
	RECORD_TAG = 8, RECORD_SEQUENCE = 10, RECORD_CONTEXT = 12, RECORD_PID = 16, RECORD_INSTANCE = 22, RECORD_TIME = 24,
	PID_HIDDEN = 0,
};

#define PID_KERNEL UINT32_MAX
#define CLOCK_ERROR_NS 1000000
#define OFFSET_SPAN_NS UINT64_C(10000000000)

void meter_init(struct meter *m)
{
	memset(m, 0, sizeof(*m));
}

struct meter_record meter_record_read(const void *bytes)
{
	const uint8_t *b = bytes;

	return (struct meter_record){
		.tag = b[RECORD_TAG],
		.sequence = get_u16(b, RECORD_SEQUENCE),
		.context = get_u32(b, RECORD_CONTEXT),
		.pid = get_u32(b, RECORD_PID),
		.instance = get_u16(b, RECORD_INSTANCE),
		.time_ns = get_u64(b, RECORD_TIME),
	};
}

static uint32_t find_pid(const struct meter *m, uint32_t pid)
{
	for (uint32_t i = 0; i < m->pid_count; i++)
		if (m->pids[i].pid == pid)
			return i;
	return METER_PIDS;
}

static bool is_running(const struct meter *m, uint32_t who)
{
	for (uint32_t i = 0; i < METER_ENGINES; i++)
		if (m->engines[i].running && m->engines[i].who == who)
			return true;
	return false;
}

/* The entry of a process. Full: takes that of nobody's process that was seen least lately. METER_PIDS: others. */
static uint32_t pid_entry(struct meter *m, uint32_t pid)
{
	uint32_t i = find_pid(m, pid);

	if (i < METER_PIDS || pid == PID_HIDDEN || pid == PID_KERNEL)
		return i;
	if (m->pid_count < METER_PIDS) {
		i = m->pid_count++;
	} else {
		for (uint32_t k = 0; k < METER_PIDS; k++)
			if (m->pids[k].slice < 0 && !is_running(m, k) &&
			    (i == METER_PIDS || m->pids[k].last_ns < m->pids[i].last_ns))
				i = k;
		if (i == METER_PIDS)
			return i;
		m->others_ns += m->pids[i].busy_ns;
	}
	m->pids[i] = (struct meter_pid){ .pid = pid, .slice = -1, .last_ns = m->last_ns };
	return i;
}

static void book(struct meter *m, uint32_t who, uint64_t ns, uint64_t there_ns)
{
	if (who >= METER_PIDS) {
		m->others_ns += ns;
		return;
	}
	m->pids[who].busy_ns += ns;
	m->pids[who].there_ns += there_ns;
	m->pids[who].last_ns = m->last_ns;
	if (m->pids[who].slice < 0)
		return;
	m->slice_ns[m->pids[who].slice] += ns;
	m->there_ns[m->pids[who].slice] += there_ns;
}

static struct meter_engine *engine_of(struct meter *m, uint16_t instance)
{
	struct meter_engine *free_one = NULL;

	for (uint32_t i = 0; i < METER_ENGINES; i++) {
		if (m->engines[i].used && m->engines[i].instance == instance)
			return &m->engines[i];
		if (!m->engines[i].used && !free_one)
			free_one = &m->engines[i];
	}
	if (free_one)
		*free_one = (struct meter_engine){ .used = true, .instance = instance };
	return free_one;
}

/* Where a context left because it had no more work there is less to save; such stays are short. */
static uint64_t worked(const struct meter *m, uint64_t ns)
{
	return ns - (ns / 16 < m->saving_ns ? ns / 16 : m->saving_ns);
}

static uint64_t loaded(uint64_t ns, uint32_t load)
{
	return load == METER_FULL_LOAD ? ns : ns / METER_FULL_LOAD * load;
}

/* The context that is on the engine leaves it at a time. */
static void leave(struct meter *m, struct meter_engine *e, uint64_t time_ns)
{
	if (!e->running)
		return;
	e->running = false;
	e->left_ns = time_ns;
	if (time_ns < e->since_ns)
		m->odd++;
	else if (e->since_ns == e->came_ns)
		book(m, e->who, worked(m, time_ns - e->came_ns), worked(m, time_ns - e->came_ns));
	else
		book(m, e->who, loaded(time_ns - e->since_ns, e->load), worked(m, time_ns - e->came_ns));
}

static void compare_clocks(struct meter *m, uint64_t time_ns, uint64_t now_ns)
{
	int64_t offset = (int64_t)(now_ns - time_ns);

	if (m->has_clock && offset > m->offset_ns - CLOCK_ERROR_NS)
		return;
	m->has_clock = false;
	/* a reset sets the GPU's clock anew */
	if (!m->has_offset || time_ns < m->last_ns - (m->last_ns > OFFSET_SPAN_NS ? OFFSET_SPAN_NS : m->last_ns)) {
		m->has_offset = true;
		m->offset_ns = m->offset_next_ns = offset;
		m->offset_span_ns = now_ns;
	} else if (now_ns - m->offset_span_ns > OFFSET_SPAN_NS) {
		/* the clocks drift apart: what was smallest long ago is true no more */
		m->offset_ns = m->offset_next_ns < offset ? m->offset_next_ns : offset;
		m->offset_next_ns = offset;
		m->offset_span_ns = now_ns;
	}
	if (offset < m->offset_next_ns)
		m->offset_next_ns = offset;
	if (offset < m->offset_ns)
		m->offset_ns = offset;
}

void meter_clock(struct meter *m, uint64_t gpu_ns, uint64_t now_ns)
{
	/* once proved wrong it stays so */
	if (m->has_offset && !m->has_clock)
		return;
	m->has_offset = m->has_clock = true;
	m->offset_ns = m->offset_next_ns = (int64_t)(now_ns - gpu_ns);
	m->offset_span_ns = now_ns;
}

void meter_record(struct meter *m, const struct meter_record *record, uint64_t now_ns)
{
	struct meter_engine *e = engine_of(m, record->instance);
	uint16_t expected = (uint16_t)(m->sequence + 1);

	if (m->started && record->sequence != expected)
		m->lost += (uint16_t)(record->sequence - expected);
	m->started = true;
	m->sequence = record->sequence;
	if (!e || record->tag == METER_INVALID_TIMESTAMP) {
		m->odd++;
		return;
	}
	compare_clocks(m, record->time_ns, now_ns);
	m->last_ns = record->time_ns;
	switch (record->tag) {
	case METER_SIMPLE_START:
	case METER_CONTEXT_START:
		/* where the end of the one before was lost, it left now at the latest */
		leave(m, e, record->time_ns);
		e->running = true;
		e->who = pid_entry(m, record->pid);
		e->context = record->context;
		e->came_ns = e->since_ns = record->time_ns;
		e->load = METER_FULL_LOAD;
		break;
	case METER_SIMPLE_END:
	case METER_SAVE_END:
		if (e->running && e->context == record->context &&
		    e->who == find_pid(m, record->pid)) {
			leave(m, e, record->time_ns);
			break;
		}
		/* its start was lost, and when the other one left, too: neither is guessed at */
		e->running = false;
		m->odd++;
		break;
	case METER_ENGINE_RESET:
		leave(m, e, record->time_ns);
		break;
	default:
		break;
	}
}

void meter_dropped(struct meter *m, uint64_t count)
{
	m->lost += count;
}

int meter_assign(struct meter *m, uint32_t pid, int slice)
{
	uint32_t who;

	if (slice >= METER_SLICES || slice < -1)
		return -EINVAL;
	who = pid_entry(m, pid);
	if (who == METER_PIDS)
		return -ENOSPC;
	m->pids[who].is_doubted = false;
	if (m->pids[who].slice == slice)
		return 0;
	if (m->pids[who].slice >= 0) {
		/* the number is another process' now */
		m->pids[who].busy_ns = m->pids[who].there_ns = 0;
	} else if (slice >= 0) {
		m->slice_ns[slice] += m->pids[who].busy_ns;
		m->there_ns[slice] += m->pids[who].there_ns;
	}
	m->pids[who].slice = (int16_t)slice;
	return 0;
}

void meter_doubt(struct meter *m)
{
	for (uint32_t i = 0; i < m->pid_count; i++)
		m->pids[i].is_doubted = m->pids[i].slice >= 0;
}

void meter_forget(struct meter *m)
{
	for (uint32_t i = 0; i < m->pid_count; i++) {
		/* one that is there still ends with a record */
		if (!m->pids[i].is_doubted || is_running(m, i))
			continue;
		/* what it used stays the slice's */
		m->pids[i].slice = -1;
		m->pids[i].busy_ns = m->pids[i].there_ns = 0;
		m->pids[i].is_doubted = false;
	}
}

/* ns that a context has been on its engine, since it came or was last charged. */
static uint64_t stay_of(const struct meter *m, const struct meter_engine *e, uint64_t now_ns)
{
	int64_t ns = (int64_t)(meter_gpu_ns(m, now_ns) - e->since_ns);

	return e->running && ns > 0 ? (uint64_t)ns : 0;
}

static bool is_there(const struct meter *m, const struct meter_engine *e, uint32_t slice)
{
	return e->running && e->who < METER_PIDS && m->pids[e->who].slice == (int)slice;
}

/* ns of the intervals under way, of one slice or one entry (the other is -1). */
static uint64_t under_way(const struct meter *m, int slice, int64_t who, uint64_t now_ns)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < METER_ENGINES; i++) {
		const struct meter_engine *e = &m->engines[i];

		if (!e->running || e->who >= METER_PIDS)
			continue;
		if (e->who == who || (slice >= 0 && m->pids[e->who].slice == slice))
			sum += loaded(stay_of(m, e, now_ns), e->load);
	}
	return sum;
}

uint64_t meter_slice_ns(const struct meter *m, uint32_t slice, uint64_t now_ns)
{
	return slice < METER_SLICES ? m->slice_ns[slice] + under_way(m, (int)slice, -1, now_ns) : 0;
}

uint64_t meter_there_ns(const struct meter *m, uint32_t slice, uint64_t now_ns)
{
	uint64_t sum = slice < METER_SLICES ? m->there_ns[slice] : 0;

	for (uint32_t i = 0; i < METER_ENGINES; i++) {
		const struct meter_engine *e = &m->engines[i];

		if (is_there(m, e, slice))
			sum += stay_of(m, e, now_ns) + e->since_ns - e->came_ns;
	}
	return sum;
}

bool meter_is_idle(const struct meter *m, uint32_t slice)
{
	bool idle = false;

	for (uint32_t i = 0; i < METER_ENGINES; i++) {
		const struct meter_engine *e = &m->engines[i];

		if (!is_there(m, e, slice))
			continue;
		if (e->load > METER_FULL_LOAD / 100)
			return false;
		idle = true;
	}
	return idle;
}

uint64_t meter_pid_ns(const struct meter *m, uint32_t pid, uint64_t now_ns)
{
	uint32_t who = find_pid(m, pid);

	return who < METER_PIDS ? m->pids[who].busy_ns + under_way(m, -1, who, now_ns) : 0;
}

uint64_t meter_stay_ns(const struct meter *m, uint32_t slice, uint64_t now_ns)
{
	uint64_t longest = 0;

	for (uint32_t i = 0; i < METER_ENGINES; i++) {
		const struct meter_engine *e = &m->engines[i];
		uint64_t ns = stay_of(m, e, now_ns) + e->since_ns - e->came_ns;

		if (is_there(m, e, slice) && ns > longest)
			longest = ns;
	}
	return longest;
}

uint64_t meter_unproved_ns(const struct meter *m, uint32_t slice, uint64_t now_ns)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; m->expects_loads && i < METER_ENGINES; i++) {
		const struct meter_engine *e = &m->engines[i];
		uint64_t ns = stay_of(m, e, now_ns);

		if (is_there(m, e, slice) && e->since_ns == e->came_ns && ns > METER_CREDIT_NS && ns < METER_PATIENCE_NS)
			sum += ns - METER_CREDIT_NS;
	}
	return sum;
}

uint64_t meter_longest_stay_ns(const struct meter *m, uint64_t now_ns)
{
	uint64_t longest = 0;

	for (uint32_t i = 0; i < METER_ENGINES; i++) {
		uint64_t ns = stay_of(m, &m->engines[i], now_ns);

		if (ns > longest)
			longest = ns;
	}
	return longest;
}

void meter_no_load(struct meter *m, uint64_t now_ns)
{
	for (uint32_t i = 0; i < METER_ENGINES; i++) {
		struct meter_engine *e = &m->engines[i];
		uint64_t ns = stay_of(m, e, now_ns);

		if (!e->running || e->load == METER_FULL_LOAD)
			continue;
		book(m, e->who, loaded(ns, e->load), 0);
		e->since_ns += ns;
		e->load = METER_FULL_LOAD;
	}
}

uint64_t meter_gpu_ns(const struct meter *m, uint64_t now_ns)
{
	return now_ns - (uint64_t)m->offset_ns;
}

void meter_load(struct meter *m, uint32_t permyriad, uint64_t from_ns, uint64_t to_ns)
{
	/* 99 % is all that it ever shows (H200) */
	if (permyriad >= METER_FULL_LOAD / 100 * 99)
		permyriad = METER_FULL_LOAD;
	for (uint32_t i = 0; i < METER_ENGINES; i++) {
		struct meter_engine *e = &m->engines[i];
		uint64_t begin_ns = e->since_ns > from_ns ? e->since_ns : from_ns;
		uint64_t busy_ns = loaded(to_ns - from_ns, permyriad);
		uint64_t before_ns = e->left_ns > from_ns ? e->left_ns - from_ns : 0;

		if (!e->running || to_ns <= begin_ns)
			continue;
		busy_ns = busy_ns > before_ns ? busy_ns - before_ns : 0;
		if (permyriad == METER_FULL_LOAD || busy_ns > to_ns - begin_ns)
			busy_ns = to_ns - begin_ns;
		book(m, e->who, loaded(begin_ns - e->since_ns, e->load) + busy_ns, 0);
		e->since_ns = to_ns;
		e->load = permyriad;
	}
}

bool meter_has_seen(const struct meter *m, uint32_t slice)
{
	if (slice >= METER_SLICES)
		return false;
	if (m->slice_ns[slice])
		return true;
	for (uint32_t i = 0; i < METER_ENGINES; i++)
		if (m->engines[i].running && m->engines[i].who < METER_PIDS &&
		    m->pids[m->engines[i].who].slice == (int)slice)
			return true;
	return false;
}

void meter_sample(struct meter *m, uint32_t pid, uint32_t permyriad, uint64_t span_ns)
{
	if (permyriad > 10000)
		permyriad = 10000;
	book(m, pid_entry(m, pid), span_ns / 10000 * permyriad, span_ns / 10000 * permyriad);
}
