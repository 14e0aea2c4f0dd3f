/* SPDX-License-Identifier: Apache-2.0 */
/* Controls: the view, scheduling, exports. */
#include "engine/internal.h"

#include <errno.h>

/* A control in progress. */
struct control {
	uint8_t argument[CONTROL_SIZE];
	uint32_t client;
	uint32_t object;
	uint32_t command;
	uint64_t params_address;
	uint32_t params_size;
};

static struct answer control_refuse(struct op *op, struct control *control, uint32_t status)
{
	return op_refuse(op, control->argument, CONTROL_SIZE, CONTROL_STATUS, status, LEDGER_REFUSED_CONTROL);
}

/* Say yes without asking the driver. */
static struct answer control_agree(struct op *op, struct control *control)
{
	put_u32(control->argument, CONTROL_STATUS, NV_OK);
	return op_reply(op, 0, control->argument, CONTROL_SIZE, 0, NULL, 0);
}

uint64_t op_view(struct op *op, uint16_t gpu, enum view_figure figure, uint64_t driver_bytes)
{
	const struct account *account = op->account;
	uint64_t used = __atomic_load_n(&account->used_bytes[gpu], __ATOMIC_RELAXED);

	return view_memory(figure, driver_bytes, account->limit_bytes[gpu], used);
}

bool op_object_gpu(struct op *op, uint32_t client, uint32_t object, uint16_t *ret_gpu)
{
	struct hold hold;

	*ret_gpu = 0;
	if (op->account->gpu_count == 1)
		return true;	/* whatever it is; the ledger's lock is not for nothing */
	if (!op_lookup(op, client, object, &hold))
		return false;
	*ret_gpu = hold.gpu;
	return true;
}

/* Run on our copy with parameters of a size the driver demands too; what *params is afterwards is the driver's. */
static bool control_run(struct op *op, struct control *control, void *params, struct answer *ret_answer)
{
	int value;

	if (!op_read(op, control->params_address, params, control->params_size)) {
		*ret_answer = op_answer(-EFAULT);
		return false;
	}
	value = op_run_params(op, control->argument, CONTROL_PARAMS, params);
	*ret_answer = op_answer(value);
	return value >= 0 && get_u32(control->argument, CONTROL_STATUS) == NV_OK;
}

static struct answer control_reply(struct op *op, struct control *control, struct answer answer, const void *params)
{
	return op_reply(op, answer.value, control->argument, CONTROL_SIZE, control->params_address, params,
			control->params_size);
}

/* What an index of NV2080_CTRL_FB_INFO means (ctrl2080fb.h). */
static enum view_figure fb_figure(uint32_t index)
{
	switch (index) {
	case FB_INFO_INDEX_RAM_SIZE:
	case FB_INFO_INDEX_TOTAL_RAM_SIZE:
	case FB_INFO_INDEX_HEAP_SIZE:
	case FB_INFO_INDEX_MAPPABLE_HEAP_SIZE:
	case FB_INFO_INDEX_USABLE_RAM_SIZE:
		return VIEW_TOTAL;
	case FB_INFO_INDEX_HEAP_FREE:
	case FB_INFO_INDEX_HEAP_BASE_LARGEST_FREE:
		return VIEW_FREE;
	case FB_INFO_INDEX_FB_TAX_SIZE:
	case FB_INFO_INDEX_HEAP_OFFLINE_SIZE:
		return VIEW_NOTHING;
	default:
		return VIEW_OTHER;
	}
}

/* One entry: (index, KiB). */
static void fb_entry(struct op *op, uint16_t gpu, uint8_t *entry)
{
	enum view_figure figure = fb_figure(get_u32(entry, 0));
	uint64_t kib;

	if (figure == VIEW_OTHER)
		return;
	kib = op_view(op, gpu, figure, (uint64_t)get_u32(entry, 4) << 10) >> 10;
	put_u32(entry, 4, kib > UINT32_MAX ? UINT32_MAX : (uint32_t)kib);
}

static struct answer fb_info_v2(struct op *op, struct control *control, uint16_t gpu)
{
	enum { FB_INFO_V2_MAX = 1028 };
	uint8_t params[FB_INFO_V2_MAX];
	struct answer answer;
	uint32_t i, count, room = (control->params_size - FB_INFO_V2_LIST) / FB_INFO_ENTRY;

	if (control->params_size != op->engine->layout.fb_info_v2_size || control->params_size > sizeof(params))
		return control_refuse(op, control, NV_ERR_INVALID_PARAM_STRUCT);
	if (control_run(op, control, params, &answer)) {
		count = get_u32(params, FB_INFO_COUNT);
		for (i = 0; i < count && i < room; i++)
			fb_entry(op, gpu, params + FB_INFO_V2_LIST + i * FB_INFO_ENTRY);
	}
	return control_reply(op, control, answer, params);
}

/* V1 points to its list. The list is copied as well, so that what is judged is what the driver filled. */
static struct answer fb_info_v1(struct op *op, struct control *control, uint16_t gpu)
{
	enum { FB_INFO_V1_MAX = 128 };
	uint8_t params[FB_INFO_V1_SIZE], list[FB_INFO_V1_MAX * FB_INFO_ENTRY];
	uint64_t list_address;
	uint32_t i, count;
	int value;

	if (control->params_size != FB_INFO_V1_SIZE)
		return control_refuse(op, control, NV_ERR_INVALID_PARAM_STRUCT);
	if (!op_read(op, control->params_address, params, sizeof(params)))
		return op_answer(-EFAULT);
	count = get_u32(params, FB_INFO_COUNT);
	list_address = get_u64(params, FB_INFO_V1_POINTER);
	if (!count || count > FB_INFO_V1_MAX)
		return control_refuse(op, control, NV_ERR_INVALID_ARGUMENT);
	if (!op_read(op, list_address, list, count * FB_INFO_ENTRY))
		return op_answer(-EFAULT);
	put_u64(params, FB_INFO_V1_POINTER, (uint64_t)(uintptr_t)list);
	value = op_run_params(op, control->argument, CONTROL_PARAMS, params);
	if (value >= 0 && get_u32(control->argument, CONTROL_STATUS) == NV_OK) {
		for (i = 0; i < count; i++)
			fb_entry(op, gpu, list + i * FB_INFO_ENTRY);
		if (op->port->write(op->port, list_address, list, count * FB_INFO_ENTRY) < 0)
			return op_answer(-EFAULT);
	}
	return op_reply(op, value, control->argument, CONTROL_SIZE, 0, NULL, 0);
}

static struct answer view_fb_info(struct op *op, struct control *control, bool v2)
{
	uint16_t gpu;

	if (op->engine->show_host)
		return op_original(op);
	if (!op_object_gpu(op, control->client, control->object, &gpu))
		return control_refuse(op, control, NV_ERR_INVALID_OBJECT_HANDLE);
	return v2 ? fb_info_v2(op, control, gpu) : fb_info_v1(op, control, gpu);
}

/* Parameters that were answered, wherever they are: in our copy, or in the caller's memory where its own call ran (no
 * large copy on a stranger's stack). */
struct window {
	struct op *op;
	uint8_t *copy;		/* NULL: at address in the caller */
	uint64_t address;
};

static bool window_get(struct window *w, size_t offset, uint32_t *ret_value)
{
	if (w->copy) {
		*ret_value = get_u32(w->copy, offset);
		return true;
	}
	return w->op->port->read(w->op->port, w->address + offset, ret_value, sizeof(*ret_value)) >= 0;
}

static bool window_set(struct window *w, size_t offset, const void *bytes, size_t size)
{
	if (w->copy) {
		memcpy(w->copy + offset, bytes, size);
		return true;
	}
	return w->op->port->write(w->op->port, w->address + offset, bytes, size) >= 0;
}

static bool is_ours(struct op *op, uint32_t pid)
{
	return op->port->is_ours && op->port->is_ours(op->port, pid);
}

/* NV2080_CTRL_GPU_GET_PIDS: keep the slice's own. */
static bool trim_pids(struct window *w, uint32_t size)
{
	uint32_t i, count, pid, kept = 0, none = 0;

	if (size != PIDS_SIZE || !window_get(w, PIDS_COUNT, &count))
		return false;
	if (count > PIDS_MAX)
		count = PIDS_MAX;
	for (i = 0; i < count; i++) {
		if (!window_get(w, PIDS_TABLE + i * 4u, &pid))
			return false;
		if (!is_ours(w->op, pid))
			continue;
		if (!window_set(w, PIDS_TABLE + kept * 4u, &pid, sizeof(pid)))
			return false;
		kept++;
	}
	for (i = kept; i < count; i++) {
		if (!window_set(w, PIDS_TABLE + i * 4u, &none, sizeof(none)))
			return false;
	}
	return window_set(w, PIDS_COUNT, &kept, sizeof(kept));
}

/* NV2080_CTRL_GPU_GET_PID_INFO: figures of other processes become 0. */
static bool trim_pid_info(struct window *w, uint32_t size)
{
	static const uint8_t nothing[PID_INFO_ENTRY - 16];
	uint32_t i, count, pid;

	if (size != PID_INFO_SIZE || !window_get(w, PID_INFO_COUNT, &count))
		return false;
	for (i = 0; i < count && i < PID_INFO_MAX; i++) {
		size_t entry = PID_INFO_LIST + (size_t)i * PID_INFO_ENTRY;

		if (!window_get(w, entry + PID_INFO_PID, &pid))
			return false;
		if (!is_ours(w->op, pid) && !window_set(w, entry + 16, nothing, sizeof(nothing)))
			return false;
	}
	return true;
}

/* GPUMON samples: those of other processes vanish. The samples follow a short head; what the head takes is what the
 * size leaves over. */
static bool trim_util(struct window *w, uint32_t size)
{
	static const uint8_t nothing[776];
	const struct abi_layout *layout = &w->op->engine->layout;
	uint32_t i, pid, head, element = layout->util_sample_size;

	if (size != layout->util_samples_size || element > sizeof(nothing))
		return false;
	head = size - layout->util_sample_count * element;
	for (i = 0; i < layout->util_sample_count; i++) {
		size_t entry = head + (size_t)i * element;

		if (!window_get(w, entry + layout->util_sample_pid, &pid))
			return false;
		if (pid && !is_ours(w->op, pid) && !window_set(w, entry, nothing, element))
			return false;
	}
	return true;
}

typedef bool trim_fn(struct window *w, uint32_t size);

/* In a supervisor: on a copy. Its own function, so that its large frame is there only when it is needed. */
static __attribute__((noinline)) struct answer trim_copy(struct op *op, struct control *control, trim_fn *trim)
{
	enum { COPY_MAX = 56 * 1024 };
	uint8_t params[COPY_MAX];
	struct window w = { op, params, 0 };
	struct answer answer;

	if (control->params_size > sizeof(params))
		return control_refuse(op, control, NV_ERR_INVALID_PARAM_STRUCT);
	if (control_run(op, control, params, &answer) && !trim(&w, control->params_size))
		return control_refuse(op, control, NV_ERR_INVALID_PARAM_STRUCT);
	return control_reply(op, control, answer, params);
}

static struct answer view_processes(struct op *op, struct control *control, trim_fn *trim)
{
	struct window w = { op, NULL, control->params_address };
	struct answer answer;
	uint32_t status;

	if (op->engine->show_host)
		return op_original(op);
	if (!op->port->original)
		return trim_copy(op, control, trim);
	answer = op_original(op);
	if (answer.value < 0 || !op_read(op, op->call->argument + CONTROL_STATUS, &status, sizeof(status)) || status)
		return answer;
	if (!trim(&w, control->params_size))
		return control_refuse(op, control, NV_ERR_INVALID_PARAM_STRUCT);
	return answer;
}

/* Whether somebody holds the slice's channels back, now or from time to time. */
static bool is_gated(const struct op *op)
{
	const struct ledger *ledger = op->engine->ledger->ledger;

	return __atomic_load_n(&ledger->frozen, __ATOMIC_RELAXED) ||
	       __atomic_load_n(&ledger->compute_max_permille, __ATOMIC_RELAXED) ||
	       __atomic_load_n(&ledger->compute_weight, __ATOMIC_RELAXED) ||
	       __atomic_load_n(&ledger->compute_priority, __ATOMIC_RELAXED);
}

/* FIFO_DISABLE_CHANNELS names channels of any client, and the driver does not check whose they are. A tenant's own may
 * be named while nobody else moves the slice's gates; then the answer is yes and nothing happens. */
static struct answer sched_disable(struct op *op, struct control *control)
{
	uint8_t params[DISABLE_SIZE];
	struct answer answer;
	struct hold hold;
	uint32_t i, count;

	if (control->params_size != sizeof(params))
		return control_refuse(op, control, NV_ERR_INVALID_PARAM_STRUCT);
	if (!op_read(op, control->params_address, params, sizeof(params)))
		return op_answer(-EFAULT);
	count = get_u32(params, DISABLE_COUNT);
	if (count > DISABLE_MAX)
		return control_refuse(op, control, NV_ERR_INVALID_ARGUMENT);
	for (i = 0; i < count; i++) {
		if (!op_lookup(op, get_u32(params, DISABLE_CLIENTS + i * 4u),
			       get_u32(params, DISABLE_CHANNELS + i * 4u), &hold) ||
		    hold.kind != HOLD_CHANNEL)
			return control_refuse(op, control, NV_ERR_INSUFFICIENT_PERMISSIONS);
	}
	if (is_gated(op))
		return control_agree(op, control);
	answer = op_answer(op_run_params(op, control->argument, CONTROL_PARAMS, params));
	return control_reply(op, control, answer, params);
}

/* Note that a group or channel is being scheduled, is scheduled, or is not. Returns what it was. */
static uint64_t mark_scheduled(struct op *op, const struct control *control, uint64_t now)
{
	struct hold *hold;
	uint64_t before = SCHEDULED;	/* what we do not know gets no first time */

	op_lock(op);
	hold = account_find(op->account, control->client, control->object);
	if (hold && (hold->kind == HOLD_GROUP || hold->kind == HOLD_CHANNEL)) {
		before = hold->length & SCHEDULE_STATE;
		if (now == SCHEDULED)
			hold->length += SCHEDULE_ONCE;
		if (now != SCHEDULING || !before)
			hold->length = (hold->length & ~(uint64_t)SCHEDULE_STATE) | now;
	}
	op_unlock(op);
	return before;
}

/* GPFIFO_SCHEDULE enables channels too. It must run once for each group, or its channels never start; after that, while
 * the slice's gates are driven, yes is the answer and nothing happens, or a tenant could open its own gate. A group that
 * starts while the gate is closed is closed at the driver's next look, which is asked for. */
static struct answer sched_enable(struct op *op, struct control *control)
{
	uint8_t params[8] = { 0 };
	struct answer answer;
	bool gated = is_gated(op);

	if (control->params_size != op->engine->layout.gpfifo_schedule_size || control->params_size > sizeof(params))
		return control_refuse(op, control, NV_ERR_INVALID_PARAM_STRUCT);
	if (!op_read(op, control->params_address, params, control->params_size))
		return op_answer(-EFAULT);
	if (gated && (!params[0] || mark_scheduled(op, control, SCHEDULING)))
		return control_agree(op, control);
	answer = op_answer(op_run_params(op, control->argument, CONTROL_PARAMS, params));
	mark_scheduled(op, control, params[0] && answer.value >= 0 && !get_u32(control->argument, CONTROL_STATUS) ? SCHEDULED : 0);
	if (gated)
		ledger_settings_changed(op->engine->ledger->ledger);
	return control_reply(op, control, answer, params);
}

/* A tenant may make its timeslice shorter than the driver's usual 2048 us, not longer, while shares are measured out; a realtime
 * one gets the longest there is. What runs beside such gets a shorter one, as whoever drives the gates says
 * (gate/timeslice.c). */
static struct answer sched_timeslice(struct op *op, struct control *control)
{
	enum { PRIORITY_REALTIME = 1 };
	const struct ledger *ledger = op->engine->ledger->ledger;
	uint32_t most_us = LEDGER_TIMESLICE_USUAL_US, told_us = 0;
	struct hold hold;
	bool realtime = __atomic_load_n(&ledger->compute_priority, __ATOMIC_RELAXED) == PRIORITY_REALTIME;
	uint8_t params[8];
	struct answer answer;

	if (!is_gated(op))
		return op_original(op);
	if (control->params_size != sizeof(params))
		return control_refuse(op, control, NV_ERR_INVALID_PARAM_STRUCT);
	if (!op_read(op, control->params_address, params, sizeof(params)))
		return op_answer(-EFAULT);
	if (op_lookup(op, control->client, control->object, &hold) && hold.gpu < ACCOUNT_GPUS)
		told_us = __atomic_load_n(&ledger->compute[hold.gpu].timeslice_us, __ATOMIC_RELAXED);
	if (told_us && told_us < most_us)
		most_us = told_us;
	if (realtime)
		put_u64(params, 0, LEDGER_TIMESLICE_REALTIME_US);
	else if (get_u64(params, 0) > most_us)
		put_u64(params, 0, most_us);
	answer = op_answer(op_run_params(op, control->argument, CONTROL_PARAMS, params));
	return control_reply(op, control, answer, params);
}

/* Keep the charges of objects that a descriptor is about to keep. Returns the number pinned, or -ENOSPC. */
static int export_pin(struct op *op, struct control *control, const uint8_t *handles, uint32_t count)
{
	struct booking booking;
	struct hold source, hold;
	uint32_t i;

	for (i = 0; i < count; i++) {
		if (!op_pin(op, control->client, get_u32(handles, i * 4u), &booking, &source))
			return -ENOSPC;
		if (!booking.charge)
			continue;
		hold = (struct hold){ .kind = HOLD_EXPORT, .gpu = source.gpu, .address = booking.pin };
		op_settle(op, &booking, &hold, 0);
	}
	return 0;
}

/* Memory to a descriptor: it keeps the memory when the object is freed, and descriptors travel to where we see nothing.
 * So the charge stays with the exporter, and after its end with the slice until no process of it is left. On a copy,
 * with the descriptor borrowed, so that what is kept is what was judged. A call the driver then refuses costs the
 * bytes of a live object nothing but the hold. */
static struct answer export_memory(struct op *op, struct control *control)
{
	enum { ONE = 0x3d05, ONE_SIZE = 24, ONE_FD = 16, ONE_OBJECT = 12,
	       MANY = 0x3d0b, MANY_SIZE = 2128, MANY_FD = 0, MANY_OBJECTS = 76, MANY_COUNT = 2124, MANY_MAX = 512 };
	uint8_t params[MANY_SIZE];
	bool one = control->command == ONE;
	size_t fd_offset = one ? ONE_FD : MANY_FD;
	uint32_t count = 1;
	struct answer answer;
	int32_t theirs;
	int ours;

	if ((!one && control->command != MANY) || control->params_size != (one ? ONE_SIZE : MANY_SIZE))
		return control_refuse(op, control, NV_ERR_NOT_SUPPORTED);
	if (!op_read(op, control->params_address, params, control->params_size))
		return op_answer(-EFAULT);
	if (!one)
		count = get_u32(params, MANY_COUNT) & 0xffff;
	theirs = (int32_t)get_u32(params, fd_offset);
	/* -1 asks for a new descriptor, which could only be made in the caller. */
	if (count > MANY_MAX || (theirs < 0 && !op->port->original))
		return control_refuse(op, control, NV_ERR_INVALID_ARGUMENT);
	if (export_pin(op, control, params + (one ? ONE_OBJECT : MANY_OBJECTS), count) < 0)
		return control_refuse(op, control, NV_ERR_INSUFFICIENT_RESOURCES);
	if (op->port->original)
		return op_original(op);
	ours = op->port->borrow ? op->port->borrow(op->port, theirs) : -ENOSYS;
	if (ours < 0)
		return control_refuse(op, control, NV_ERR_INVALID_ARGUMENT);
	put_u32(params, fd_offset, (uint32_t)ours);
	answer = op_answer(op_run_params(op, control->argument, CONTROL_PARAMS, params));
	put_u32(params, fd_offset, (uint32_t)theirs);
	op->port->give_back(op->port, ours);
	return control_reply(op, control, answer, params);
}

static struct answer control_by_row(struct op *op, struct control *control, const struct abi_row *row)
{
	switch ((int)row->effect) {
	case ABI_PASS:
	case ABI_IMPORT:	/* the exporter's charge stays: export_memory() */
		return op_original(op);
	case ABI_VIEW_FB_INFO_V1:
		return view_fb_info(op, control, false);
	case ABI_VIEW_FB_INFO_V2:
		return view_fb_info(op, control, true);
	case ABI_VIEW_PIDS:
		return view_processes(op, control, trim_pids);
	case ABI_VIEW_PID_INFO:
		return view_processes(op, control, trim_pid_info);
	case ABI_VIEW_UTIL_SAMPLES:
		return view_processes(op, control, trim_util);
	case ABI_SCHED_DISABLE:
		return sched_disable(op, control);
	case ABI_SCHED_ENABLE:
		return sched_enable(op, control);
	case ABI_SCHED_TIMESLICE:
		return sched_timeslice(op, control);
	case ABI_EXPORT:
		return export_memory(op, control);
	default:
		return control_refuse(op, control, NV_ERR_INSUFFICIENT_PERMISSIONS);
	}
}

bool engine_passes_control(const uint8_t argument[CONTROL_SIZE])
{
	uint32_t command = get_u32(argument, CONTROL_COMMAND);
	const struct abi_row *row = abi_control_find(command);

	if (get_u32(argument, CONTROL_FLAGS) || !abi_control_is_allowed(command))
		return false;
	return !row || row->effect == ABI_PASS || row->effect == ABI_IMPORT;
}

struct answer rm_call_control(struct op *op)
{
	struct control control;
	const struct abi_row *row;

	if (!op_read(op, op->call->argument, control.argument, CONTROL_SIZE))
		return op_answer(-EFAULT);
	control.client = get_u32(control.argument, CONTROL_CLIENT);
	control.object = get_u32(control.argument, CONTROL_OBJECT);
	control.command = get_u32(control.argument, CONTROL_COMMAND);
	control.params_address = get_u64(control.argument, CONTROL_PARAMS);
	control.params_size = get_u32(control.argument, CONTROL_PARAMS_SIZE);
	if (get_u32(control.argument, CONTROL_FLAGS))
		return control_refuse(op, &control, NV_ERR_INVALID_FLAGS);
	if (!abi_control_is_allowed(control.command))
		return control_refuse(op, &control, NV_ERR_NOT_SUPPORTED);
	row = abi_control_find(control.command);
	return row ? control_by_row(op, &control, row) : op_original(op);
}
