/* SPDX-License-Identifier: Apache-2.0 */
/* The event buffer of context-switch records, and utilisation samples. */
#include "meter/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "abi/calls.h"
#include "base/bytes.h"
#include "base/clock.h"

/* cl90cd.h, ctrl90cd.h, ctrl2080gr.h; the same from 515 to 595 */
enum {
	CLASS_SYSTEM_MEMORY = 0x3e,
	CLASS_EVENT_BUFFER = 0x90cd,
	EVENTS_ENABLE = 0x90cd0101, ENABLE_SIZE = 8, ENABLE_ENABLE = 0, ENABLE_FLAGS = 4, FLAGS_KEEP_OLDEST = 1,
	EVENTS_UPDATE_GET = 0x90cd0102, UPDATE_SIZE = 8,
	EVENTS_FLUSH = 0x90cd0104,
	BIND_V2 = 0x20801238, BIND_SIZE = 24, BIND_BUFFER = 0, BIND_RECORD_SIZE = 4, BIND_DETAIL = 8, BIND_ALL_USERS = 16,
	DETAIL_SIMPLE = 1, PAYLOAD_SIZE = 24,
	TIMER_GET_TIME = 0x20800403,
	HEADER_PUT = 4, HEADER_DROPPED = 16,
	BUFFER_SIZE = 72, BUFFER_RECORD_SIZE = 16, BUFFER_RECORD_COUNT = 20, BUFFER_SUBDEVICE = 52, BUFFER_HEADER = 60,
	BUFFER_RECORDS = 64,
};

/* Pages of host memory that we may map; what a program that had the driver make some used (H200, 580.159.04) */
enum {
	HOST_FLAGS = 0xc001, HOST_ATTR = 0x2a800000, HOST_ATTR2 = 9 | 1 << 22,
	MEMORY_PARAMS = 256,
};

enum { HANDLE_BASE = 0x0f6b0000, HANDLE_HEADER = 1, HANDLE_RECORDS = 2, HANDLE_BUFFER = 3 };

static uint32_t handle_of(const struct meter_reader *r, uint32_t which)
{
	return HANDLE_BASE + r->gpu * 16 + which;
}

static int status_error(int status)
{
	if (status < 0)
		return status;
	return status == NV_ERR_INSUFFICIENT_PERMISSIONS ? -EPERM : -ENOTSUP;
}

/* Host memory of the driver's, mapped by us. */
static int make_memory(struct meter_reader *r, uint32_t which, uint64_t bytes, struct rm_map *ret_map)
{
	const struct rm_gpu *gpu = &r->rm->gpus[r->gpu];
	char params[MEMORY_PARAMS] = { 0 };
	uint32_t handle = handle_of(r, which);
	int status;

	put_u32(params, MEMORY_OWNER, r->rm->client);
	put_u32(params, MEMORY_FLAGS, HOST_FLAGS);
	put_u32(params, MEMORY_ATTR, HOST_ATTR);
	put_u32(params, MEMORY_ATTR2, HOST_ATTR2);
	put_u64(params, MEMORY_BYTES, bytes);
	status = rm_alloc(r->rm, gpu->device_handle, &handle, CLASS_SYSTEM_MEMORY, params);
	if (status == NV_OK)
		status = rm_map(r->rm, gpu->device_handle, handle, "/dev/nvidiactl", bytes, false, ret_map);
	return status == NV_OK ? 0 : status_error(status);
}

static int bind_events(struct meter_reader *r, bool all_users)
{
	char bind[BIND_SIZE] = { 0 };

	put_u32(bind, BIND_BUFFER, r->buffer);
	put_u32(bind, BIND_RECORD_SIZE, PAYLOAD_SIZE);
	put_u32(bind, BIND_DETAIL, DETAIL_SIMPLE);
	bind[BIND_ALL_USERS] = all_users;
	return rm_control(r->rm, r->rm->gpus[r->gpu].subdevice_handle, BIND_V2, bind, BIND_SIZE);
}

static int open_records(struct meter_reader *r)
{
	char params[BUFFER_SIZE] = { 0 }, enable[ENABLE_SIZE] = { 0 };
	int status;

	status = make_memory(r, HANDLE_HEADER, METER_HEADER_BYTES, &r->maps[0]);
	if (status == 0)
		status = make_memory(r, HANDLE_RECORDS, METER_RECORDS_BYTES, &r->maps[1]);
	if (status < 0)
		return status;
	r->header = r->maps[0].at;
	r->records = r->maps[1].at;
	put_u32(params, BUFFER_RECORD_SIZE, METER_RECORD_SIZE);
	put_u32(params, BUFFER_RECORD_COUNT, METER_RECORDS_MAX);
	put_u32(params, BUFFER_SUBDEVICE, r->rm->gpus[r->gpu].subdevice_handle);
	put_u32(params, BUFFER_HEADER, handle_of(r, HANDLE_HEADER));
	put_u32(params, BUFFER_RECORDS, handle_of(r, HANDLE_RECORDS));
	r->buffer = handle_of(r, HANDLE_BUFFER);
	status = rm_alloc(r->rm, r->rm->client, &r->buffer, CLASS_EVENT_BUFFER, params);
	if (status != NV_OK) {
		r->buffer = 0;
		return status_error(status);
	}
	enable[ENABLE_ENABLE] = 1;
	put_u32(enable, ENABLE_FLAGS, FLAGS_KEEP_OLDEST);
	status = rm_control(r->rm, r->buffer, EVENTS_ENABLE, enable, ENABLE_SIZE);
	if (status != NV_OK)
		return status_error(status);
	r->source = METER_RECORDS;
	status = bind_events(r, true);
	if (status == NV_ERR_INSUFFICIENT_PERMISSIONS) {
		r->source = METER_RECORDS_OWN;
		status = bind_events(r, false);
	}
	return status == NV_OK ? 0 : status_error(status);
}

static void close_records(struct meter_reader *r)
{
	if (r->buffer)
		rm_free(r->rm, r->buffer);
	rm_unmap(&r->maps[0]);
	rm_unmap(&r->maps[1]);
	rm_free(r->rm, handle_of(r, HANDLE_RECORDS));
	rm_free(r->rm, handle_of(r, HANDLE_HEADER));
	r->header = r->records = NULL;
	r->buffer = 0;
}

static int ask_samples(struct meter_reader *r)
{
	const struct abi_layout *layout = &r->rm->layout;
	uint32_t bytes = (uint32_t)layout->util_sample_size * layout->util_sample_count;

	/* type (3: per process), bytes of the buffer, count, tracker, then the samples (ctrl2080perf.h) */
	memset(r->samples, 0, layout->util_samples_size);
	r->samples[0] = 3;
	put_u32(r->samples, 4, bytes);
	return rm_control(r->rm, r->rm->gpus[r->gpu].subdevice_handle,
			  NV2080_CTRL_CMD_PERF_GET_GPUMON_PERFMON_UTIL_SAMPLES_V2, r->samples,
			  layout->util_samples_size);
}

static int open_samples(struct meter_reader *r)
{
	int status;

	if (!r->rm->layout.util_samples_size)
		return -ENOTSUP;
	r->samples = malloc(r->rm->layout.util_samples_size);
	if (!r->samples)
		return -ENOMEM;
	status = ask_samples(r);
	if (status == NV_OK)
		return 0;
	free(r->samples);
	r->samples = NULL;
	return status_error(status);
}

int meter_reader_open(struct meter_reader *reader, struct rm *rm, uint32_t gpu, struct error *err)
{
	int records, samples;

	memset(reader, 0, sizeof(*reader));
	reader->rm = rm;
	reader->gpu = gpu;
	if (gpu >= rm->gpu_count)
		return error_set(err, -EINVAL, "there is no GPU %u", gpu);
	records = open_records(reader);
	if (records == 0)
		return 0;
	close_records(reader);
	reader->source = METER_NOTHING;
	samples = open_samples(reader);
	if (samples < 0)
		return error_set(err, records, "no GPU time to be had of GPU %u: context-switch records: %s; samples: %s", gpu,
				 strerror(-records), strerror(-samples));
	reader->source = METER_SAMPLES;
	return 0;
}

#define NO_SAMPLES_NS UINT64_C(10000000000)	/* to the next try */
#define SAMPLE_SPAN_MAX_NS UINT64_C(2000000000)
#define SAMPLE_AGE_MAX_NS UINT64_C(2000000000)
#define CLOCK_PAUSE_NS UINT64_C(1000000000)

/* The records' times are of the same clock (ctrl2080tmr.h: the PTIMER, in ns). A call takes some us; the quickest of three
 * is believed. */
static void read_clock(struct meter_reader *r, struct meter *meter)
{
	uint64_t quickest = UINT64_MAX, gpu_ns = 0, at_ns = 0;

	for (int i = 0; i < 3; i++) {
		char params[8] = { 0 };
		uint64_t before = monotonic_ns(), took;

		if (rm_control(r->rm, r->rm->gpus[r->gpu].subdevice_handle, TIMER_GET_TIME, params, sizeof(params)) != NV_OK)
			return;
		took = monotonic_ns() - before;
		if (took >= quickest)
			continue;
		quickest = took;
		gpu_ns = get_u64(params, 0);
		at_ns = before + took / 2;
	}
	meter_clock(meter, gpu_ns, at_ns);
}

/* GR's utilisation of a sample, 1/10000. NV2080_CTRL_PERF_GPUMON_ENGINE_UTIL_SAMPLE (ctrl2080perf.h): util, vgpuScale, procId. */
static uint32_t util_of(const struct abi_layout *layout, const uint8_t *sample)
{
	return get_u32(sample, layout->util_sample_pid - 8u);
}

/* Of the GPU's clock. Microseconds (NVML's documentation), or nanoseconds (ctrl2080gpumon.h): both are since 1970. */
static uint64_t sample_time_ns(const uint8_t *sample)
{
	uint64_t time = get_u64(sample, 0);

	return time < UINT64_C(100000000000000000) ? time * 1000 : time;
}

static const uint8_t *first_sample(const struct meter_reader *r)
{
	const struct abi_layout *layout = &r->rm->layout;

	return r->samples + layout->util_samples_size - (size_t)layout->util_sample_count * layout->util_sample_size;
}

/* What has stayed on the GPU for long is charged by the driver's newest sample: records do not tell work from its absence. */
static void poll_load(struct meter_reader *r, struct meter *meter, uint64_t now_ns)
{
	const struct abi_layout *layout = &r->rm->layout;
	const uint8_t *newest = NULL;
	uint64_t before_ns = 0, time_ns = r->sample_ns, gpu_ns;

	if (now_ns < r->load_at_ns || (r->samples && meter_longest_stay_ns(meter, now_ns) < METER_STAY_NS))
		return;
	r->load_at_ns = now_ns + METER_STAY_NS / 2;
	meter->expects_loads = r->samples ? ask_samples(r) == NV_OK : open_samples(r) == 0;
	if (!meter->expects_loads) {
		meter_no_load(meter, now_ns);
		r->load_at_ns = now_ns + NO_SAMPLES_NS;
		return;
	}
	for (uint32_t i = 0; i < layout->util_sample_count; i++) {
		const uint8_t *sample = first_sample(r) + (size_t)i * layout->util_sample_size;

		uint64_t at_ns = sample_time_ns(sample);

		if (at_ns > time_ns) {
			newest = sample;
			before_ns = time_ns;
			time_ns = at_ns;
		} else if (at_ns > before_ns && at_ns < time_ns) {
			before_ns = at_ns;
		}
	}
	r->sample_ns = time_ns;
	if (!newest || !before_ns || time_ns - before_ns > SAMPLE_SPAN_MAX_NS)
		return;
	/* of the same clock as the records, or else of the time just now */
	gpu_ns = meter_gpu_ns(meter, now_ns);
	if (time_ns > gpu_ns || gpu_ns - time_ns > SAMPLE_AGE_MAX_NS) {
		before_ns = gpu_ns - (time_ns - before_ns);
		time_ns = gpu_ns;
	}
	meter_load(meter, util_of(layout, newest), before_ns, time_ns);
}

static int poll_records(struct meter_reader *r, struct meter *meter, uint64_t now_ns)
{
	char update[UPDATE_SIZE] = { 0 };
	uint64_t dropped;
	uint32_t put;
	int count = 0;
	int status;

	if (now_ns >= r->clock_at_ns) {
		read_clock(r, meter);
		r->clock_at_ns = now_ns + CLOCK_PAUSE_NS;
	}
	status = rm_control(r->rm, r->buffer, EVENTS_FLUSH, NULL, 0);
	if (status != NV_OK)
		return status_error(status);
	if (r->refresh)
		r->refresh(r);
	put = __atomic_load_n((uint32_t *)(void *)(r->header + HEADER_PUT), __ATOMIC_ACQUIRE);
	dropped = get_u64(r->header, HEADER_DROPPED);
	if (put >= METER_RECORDS_MAX)
		return -EIO;
	if (put == r->get && dropped == r->dropped)
		return 0;
	for (; r->get != put; r->get = (r->get + 1) % METER_RECORDS_MAX, count++) {
		struct meter_record record = meter_record_read(r->records + (size_t)r->get * METER_RECORD_SIZE);

		meter_record(meter, &record, now_ns);
	}
	if (dropped > r->dropped)
		meter_dropped(meter, dropped - r->dropped);
	r->dropped = dropped;
	put_u32(update, 0, r->get);
	status = rm_control(r->rm, r->buffer, EVENTS_UPDATE_GET, update, UPDATE_SIZE);
	return status == NV_OK ? count : status_error(status);
}

static int poll_samples(struct meter_reader *r, struct meter *meter)
{
	const struct abi_layout *layout = &r->rm->layout;
	uint32_t count = layout->util_sample_count;
	int taken = 0;
	int status = ask_samples(r);

	if (status != NV_OK)
		return status_error(status);
	for (;;) {
		const uint8_t *next = NULL;
		uint64_t time = 0;

		/* a ring: take the oldest that is newer than the last one taken */
		for (uint32_t i = 0; i < count; i++) {
			const uint8_t *sample = first_sample(r) + (size_t)i * layout->util_sample_size;
			uint64_t t = sample_time_ns(sample);

			if (t > r->sample_ns && (!next || t < time)) {
				next = sample;
				time = t;
			}
		}
		if (!next)
			return taken;
		if (r->sample_ns && time - r->sample_ns < UINT64_C(1000000000))
			meter_sample(meter, get_u32(next, layout->util_sample_pid), util_of(layout, next), time - r->sample_ns);
		r->sample_ns = time;
		taken++;
	}
}

int meter_reader_poll(struct meter_reader *reader, struct meter *meter, uint64_t now_ns)
{
	int result;

	switch (reader->source) {
	case METER_RECORDS:
	case METER_RECORDS_OWN:
		result = poll_records(reader, meter, now_ns);
		poll_load(reader, meter, now_ns);
		return result;
	case METER_SAMPLES:
		return poll_samples(reader, meter);
	case METER_NOTHING:
	default:
		return -ENODEV;
	}
}

void meter_reader_close(struct meter_reader *reader)
{
	if (!reader->rm)
		return;
	close_records(reader);
	free(reader->samples);
	memset(reader, 0, sizeof(*reader));
}

const char *meter_source_text(enum meter_source source)
{
	switch (source) {
	case METER_RECORDS:
		return "context-switch records";
	case METER_RECORDS_OWN:
		return "context-switch records of this user";
	case METER_SAMPLES:
		return "the driver's utilisation samples (coarse)";
	case METER_NOTHING:
	default:
		return "nothing";
	}
}
