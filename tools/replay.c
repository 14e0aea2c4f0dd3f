/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpu-replay: run a recording of driver calls through the engine, and compare its sums with the driver's own.
 *
 * The recording is one JSON object a line (traces/README.md). A call whose bytes were not recorded cannot be judged: it is
 * passed over and counted. The driver's answers come from the recording, so nothing here needs a driver. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/size.h"
#include "engine/engine.h"

enum { LINE_MAX_BYTES = 1 << 20, PART_MAX = 64 * 1024 };

/* Bytes of one part of a recorded call. */
struct part {
	uint8_t bytes[PART_MAX];
	size_t size;
	bool present;
};

struct replay {
	struct port port;
	struct engine engine;
	struct ledger_handle handle;
	/* the line at hand */
	struct part in, out, pin, pout;
	uint32_t request;
	uint64_t params_address;	/* the recorded pointer */
	int recorded;			/* what the driver returned */
	bool incomplete;		/* the engine asked for bytes that were not recorded */
	/* over all lines */
	uint64_t first_free_kib, last_free_kib;
	bool has_free;
	bool pool_pending;		/* a semaphore pool of unknown place was made: the next UVM mmap maps it */
	bool verbose;
	unsigned long calls, skipped;
	const char *phase;
	char phase_text[128];
};

/* Where the argument is said to be: an address no recording uses. */
static const uint64_t argument_address = UINT64_C(0x10000);

static struct replay *replay_of(struct port *port)
{
	return (struct replay *)port;
}

static int copy_part(struct replay *r, const struct part *part, uint64_t offset, void *buffer, size_t size)
{
	if (!part->present || offset > part->size || size > part->size - offset) {
		r->incomplete = true;
		return -EFAULT;
	}
	memcpy(buffer, part->bytes + offset, size);
	return 0;
}

static int port_read(struct port *port, uint64_t address, void *buffer, size_t size)
{
	struct replay *r = replay_of(port);

	/* Recordings keep the first 16 bytes of UVM_FREE: the range. The rest is output. */
	if (address == argument_address && r->request == UVM_FREE && r->in.size == 16 && size >= 16) {
		memset(buffer, 0, size);
		size = 16;
	}
	if (address >= argument_address && address < argument_address + PART_MAX)
		return copy_part(r, &r->in, address - argument_address, buffer, size);
	if (r->params_address && address >= r->params_address)
		return copy_part(r, &r->pin, address - r->params_address, buffer, size);
	r->incomplete = true;
	return -EFAULT;
}

static int port_write(struct port *port, uint64_t address, const void *buffer, size_t size)
{
	return 0;
}

/* The driver's recorded answer. A pointer in the argument is the engine's: its parameters get the recorded ones. */
static int port_real(struct port *port, uint32_t request, void *argument)
{
	struct replay *r = replay_of(port);
	uint64_t ours = 0;
	bool points = r->params_address != 0;

	if (points)
		memcpy(&ours, (uint8_t *)argument + CONTROL_PARAMS, sizeof(ours));
	if (r->out.present)
		memcpy(argument, r->out.bytes, r->out.size);
	if (points)
		put_u64(argument, CONTROL_PARAMS, ours);
	if (ours && r->pout.present)
		memcpy((void *)(uintptr_t)ours, r->pout.bytes, r->pout.size);
	return r->recorded;
}

static int port_original(struct port *port)
{
	return replay_of(port)->recorded;
}

static bool port_is_ours(struct port *port, uint32_t pid)
{
	return true;
}

static bool hex_part(json_t *line, const char *key, struct part *part)
{
	const char *text = json_string_value(json_object_get(line, key));
	size_t i, length;

	part->present = text != NULL;
	part->size = 0;
	if (!text)
		return true;
	length = strlen(text);
	if (length % 2 || length / 2 > sizeof(part->bytes))
		return false;
	for (i = 0; i < length / 2; i++) {
		unsigned int byte;

		if (sscanf(text + 2 * i, "%2x", &byte) != 1)
			return false;
		part->bytes[i] = (uint8_t)byte;
	}
	part->size = length / 2;
	return true;
}

static uint64_t number(json_t *line, const char *key)
{
	json_t *value = json_object_get(line, key);

	if (json_is_integer(value))
		return (uint64_t)json_integer_value(value);
	return json_is_string(value) ? strtoull(json_string_value(value), NULL, 0) : 0;
}

static enum abi_device device_of(const char *path, uint32_t *ret_minor)
{
	unsigned int minor;

	*ret_minor = 0;
	if (!path)
		return ABI_DEV_NONE;
	if (!strcmp(path, "/dev/nvidiactl"))
		return ABI_DEV_CTL;
	if (!strcmp(path, "/dev/nvidia-uvm"))
		return ABI_DEV_UVM;
	if (!strcmp(path, "/dev/nvidia-uvm-tools"))
		return ABI_DEV_UVM_TOOLS;
	if (sscanf(path, "/dev/nvidia%u", &minor) == 1) {
		*ret_minor = minor;
		return ABI_DEV_GPU;
	}
	return ABI_DEV_NONE;
}

static void print_state(struct replay *r)
{
	const struct account *account = &r->handle.ledger->account;
	json_t *line = json_object();
	char *text;

	json_object_set_new(line, "phase", json_string(r->phase));
	json_object_set_new(line, "charged_mib", json_integer((json_int_t)(account->used_bytes[0] >> 20)));
	json_object_set_new(line, "driver_used_mib",
			    r->has_free ? json_integer((json_int_t)((r->first_free_kib - r->last_free_kib) >> 10)) :
					  json_null());
	json_object_set_new(line, "refused", json_integer((json_int_t)account->refusals[0]));
	text = json_dumps(line, JSON_PRESERVE_ORDER);
	puts(text);
	free(text);
	json_decref(line);
}

/* The driver's own free memory, before the view changes it. */
static bool note_free(struct replay *r)
{
	uint32_t i, count;

	if (!r->pout.present || r->pout.size < FB_INFO_V2_LIST ||
	    get_u32(r->in.bytes, CONTROL_COMMAND) != NV2080_CTRL_CMD_FB_GET_INFO_V2)
		return false;
	count = get_u32(r->pout.bytes, FB_INFO_COUNT);
	for (i = 0; i < count && FB_INFO_V2_LIST + (i + 1) * FB_INFO_ENTRY <= r->pout.size; i++) {
		const uint8_t *entry = r->pout.bytes + FB_INFO_V2_LIST + i * FB_INFO_ENTRY;

		if (get_u32(entry, 0) != FB_INFO_INDEX_HEAP_FREE)
			continue;
		r->last_free_kib = get_u32(entry, 4);
		if (!r->has_free)
			r->first_free_kib = r->last_free_kib;
		r->has_free = true;
	}
	return true;
}

static void replay_ioctl(struct replay *r, json_t *line)
{
	struct call call = { .request = (uint32_t)number(line, "req"), .argument = argument_address };
	uint32_t nr = abi_request_nr(call.request);
	uint64_t before[LEDGER_EVENTS];
	int value;

	call.device = device_of(json_string_value(json_object_get(line, "dev")), &call.minor);
	call.file = (uint32_t)number(line, "fd") + 1;
	r->recorded = (int)json_integer_value(json_object_get(line, "ret"));
	r->request = call.request;
	r->params_address = 0;
	r->incomplete = false;
	if (call.device == ABI_DEV_UVM && call.request == UVM_ALLOC_SEMAPHORE_POOL && !r->in.present)
		r->pool_pending = true;
	if (call.device != ABI_DEV_UVM && (nr == NV_ESC_RM_ALLOC || nr == NV_ESC_RM_CONTROL) &&
	    r->in.size >= CONTROL_PARAMS + 8)
		r->params_address = get_u64(r->in.bytes, CONTROL_PARAMS);
	r->calls++;
	memcpy(before, r->handle.ledger->events, sizeof(before));
	engine_ioctl(&r->engine, &r->port, &call, &value);
	if (r->incomplete)
		r->skipped++;
	else if (r->verbose && memcmp(before, r->handle.ledger->events, sizeof(before)))
		fprintf(stderr, "fracgpu-replay: call %lu (0x%08x, command 0x%08x) was not let through: %d\n", r->calls,
			call.request, nr == NV_ESC_RM_CONTROL && r->in.present ? get_u32(r->in.bytes, CONTROL_COMMAND) : 0,
			value);
	if (call.device == ABI_DEV_CTL && nr == NV_ESC_RM_CONTROL && note_free(r))
		print_state(r);
}

static void replay_line(struct replay *r, json_t *line)
{
	const char *op = json_string_value(json_object_get(line, "op"));
	const char *phase = json_string_value(json_object_get(line, "phase"));
	struct call call = { 0 };

	if (phase) {
		snprintf(r->phase_text, sizeof(r->phase_text), "%s", phase);
		r->phase = r->phase_text;
		print_state(r);
	} else if (op && !strcmp(op, "ioctl")) {
		replay_ioctl(r, line);
	} else if (op && !strcmp(op, "mmap")) {
		call.device = device_of(json_string_value(json_object_get(line, "dev")), &call.minor);
		call.file = (uint32_t)number(line, "fd") + 1;
		if (call.device == ABI_DEV_UVM && r->pool_pending)
			r->pool_pending = false;
		else
			engine_mmap(&r->engine, &r->port, &call, number(line, "ret"), number(line, "len"),
				    (int)number(line, "flags"), number(line, "off"));
	} else if (op && !strcmp(op, "munmap")) {
		engine_unmapped(&r->engine, 0, number(line, "addr"), number(line, "len"));
	}
}

static int replay_file(struct replay *r, const char *path)
{
	cleanup_free char *text = malloc(LINE_MAX_BYTES);
	gzFile file = gzopen(path, "rb");
	unsigned long number_of_line = 0;
	int result = 0;

	if (!file || !text) {
		fprintf(stderr, "fracgpu-replay: cannot open '%s': %s\n", path, strerror(errno));
		return 1;
	}
	while (result == 0 && gzgets(file, text, LINE_MAX_BYTES)) {
		json_error_t error;
		json_t *line = json_loads(text, 0, &error);

		number_of_line++;
		if (!json_is_object(line) || !hex_part(line, "in", &r->in) || !hex_part(line, "out", &r->out) ||
		    !hex_part(line, "pin", &r->pin) || !hex_part(line, "pout", &r->pout)) {
			fprintf(stderr, "fracgpu-replay: %s:%lu: no recorded call: %s\n", path, number_of_line,
				line ? "bytes that are not hexadecimal" : error.text);
			result = 1;
		} else {
			replay_line(r, line);
		}
		json_decref(line);
	}
	gzclose(file);
	fprintf(stderr, "fracgpu-replay: %lu calls, %lu of them without the bytes to judge them by\n", r->calls,
		r->skipped);
	return result;
}

static int replay_start(struct replay *r, const char *driver, uint64_t limit)
{
	const struct ledger_gpu gpu = { .name = "recorded", .uuid = "GPU-recorded", .total_bytes = limit };
	const struct ledger_settings settings = {
		.name = "replay", .door = "replay", .driver = driver, .gpu_count = 1, .gpus = &gpu, .limits = &limit,
	};
	struct error err;
	sigset_t saved;

	r->port = (struct port){ .read = port_read, .write = port_write, .real = port_real,
				 .original = port_original, .is_ours = port_is_ours };
	r->phase = "";
	if (ledger_create(&r->handle, NULL, &settings, &err) < 0) {
		fprintf(stderr, "fracgpu-replay: %s\n", err.text);
		return 1;
	}
	ledger_lock(&r->handle, &saved);
	if (ledger_slot_of(&r->handle, 1, 1, "replay") != 0) {
		ledger_unlock(&r->handle, &saved);
		fprintf(stderr, "fracgpu-replay: no slot in a new ledger\n");
		return 1;
	}
	ledger_unlock(&r->handle, &saved);
	if (engine_init(&r->engine, driver, &r->handle) < 0) {
		fprintf(stderr, "fracgpu-replay: driver '%s' is not supported (%s are)\n", driver, abi_supported());
		return 1;
	}
	return 0;
}

static const char usage[] =
	"Usage: fracgpu-replay [--memory SIZE] [--driver VERSION] TRACE.jsonl[.gz]\n"
	"Run a recording of driver calls through the engine. Prints a JSON line per phase and per answer of\n"
	"FB_GET_INFO_V2: what is charged, what the driver used (free memory at the first answer minus now), refusals.\n"
	"\n"
	"  --memory SIZE     the limit, such as 8GiB (default: none)\n"
	"  --driver VERSION  of the driver that was recorded (default: 580.159.04)\n"
	"  --verbose         also tell each call that was refused, on standard error\n"
	"  --help            this text\n";

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "memory", required_argument, NULL, 'm' },
		{ "driver", required_argument, NULL, 'd' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *driver = "580.159.04";
	uint64_t limit = UINT64_C(1) << 50;
	bool verbose = false;
	struct replay *r;
	int option, result;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'm':
			if (size_parse(optarg, &limit) < 0 || !limit) {
				fprintf(stderr, "fracgpu-replay: '%s' is no size such as 8GiB\n", optarg);
				return 2;
			}
			break;
		case 'd':
			driver = optarg;
			break;
		case 'v':
			verbose = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			return 2;
		}
	}
	if (argc - optind != 1) {
		fputs(usage, stderr);
		return 2;
	}
	r = calloc(1, sizeof(*r));
	if (!r || replay_start(r, driver, limit))
		return 1;
	r->verbose = verbose;
	result = replay_file(r, argv[optind]);
	ledger_close(&r->handle);
	free(r);
	return result;
}
