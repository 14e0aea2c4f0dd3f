/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's answer to a notification, with hostile memory behind it: addresses that are not mapped, read-only, at the
 * end of a mapping or no addresses at all, sizes and counts of any size, and bytes that another thread changes while they
 * are read.
 *
 * The caller is a child that only lends its memory and its files. The driver and the kernel's side of the listener are
 * functions here (--wrap). The driver touches all bytes of its arguments that a real one would, so that the sanitizers see
 * whether the supervisor's copies have them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi/device.h"
#include "base/bytes.h"
#include "fuzz.h"
#include "supervisor/internal.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif

enum {
	PAGE = 4096,
	PAGES = 64,
	HOLE = 5,	/* pages that the caller has not, may not read, and may not write */
	CLOSED = 8,
	READ_ONLY = 11,
	WHOLE = 16,	/* from here on it has all */
	FILES = 6,	/* of the kinds of enum abi_device */
	FILE_FIRST = 900,
	FLIPS = 8,
	CALLS = 24,
};

static uint8_t *const region = (uint8_t *)(UINT64_C(1) << 45);	/* at the same place in both */
static const uint64_t limit = UINT64_C(1) << 30;
static pid_t caller, ended;
static ino_t inodes[FILES];

/* What the fuzzer thinks of the driver and the listener. */
static struct fuzz *driver;

/* Words that change all the time. */
static struct flip {
	uint32_t *word;		/* NULL: none */
	uint32_t values[2];
} flips[FLIPS];
static uint32_t flipping;

bool __wrap_device_find(int fd, struct device *ret);
int __wrap_ioctl(int fd, unsigned long request, void *argument);
bool __wrap_listener_is_valid(int listener, uint64_t id);
bool __wrap_listener_has_more(int listener);
int __wrap_listener_send(int listener, const union response *r);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* ---- the machine ---- */

bool __wrap_device_find(int fd, struct device *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	for (int kind = ABI_DEV_NONE + 1; kind < FILES; kind++) {
		if (st.st_ino == inodes[kind]) {
			*ret = (struct device){ (enum abi_device)kind, 0 };
			return true;
		}
	}
	return false;
}

/* Read and write each byte, as copy_from_user() and copy_to_user() would. */
static void touch(void *bytes, size_t size)
{
	volatile uint8_t *p = bytes;

	for (size_t i = 0; bytes && i < size; i++)
		p[i] = p[i];
}

static size_t alloc_params_size(uint32_t class_id, const struct abi_layout *layout)
{
	const struct abi_row *row = abi_class_find(class_id);

	return row ? abi_class_params_size(row, layout) : 0;
}

static const struct abi_layout *layout;

static size_t uvm_size(uint32_t request)
{
	const struct abi_row *row = abi_uvm_find(request);

	switch (request) {
	case UVM_MAP_EXTERNAL_ALLOCATION:
		return layout->uvm_map_external_size;
	case UVM_FREE:
		return layout->uvm_free_size;
	case UVM_ALLOC_SEMAPHORE_POOL:
		return layout->uvm_semaphore_pool_size;
	default:
		return row ? row->size : 0;
	}
}

static void touch_params(uint32_t nr, uint8_t *argument)
{
	void *params;

	switch (nr) {
	case NV_ESC_RM_CONTROL:
		params = (void *)(uintptr_t)get_u64(argument, CONTROL_PARAMS);
		touch(params, get_u32(argument, CONTROL_PARAMS_SIZE));
		if (params && get_u32(argument, CONTROL_COMMAND) == NV2080_CTRL_CMD_FB_GET_INFO)
			touch((void *)(uintptr_t)get_u64(params, FB_INFO_V1_POINTER),
			      (size_t)get_u32(params, FB_INFO_COUNT) * FB_INFO_ENTRY);
		break;
	case NV_ESC_RM_ALLOC:
		touch((void *)(uintptr_t)get_u64(argument, ALLOC_PARAMS),
		      alloc_params_size(get_u32(argument, ALLOC_CLASS), layout));
		break;
	default:
		break;
	}
}

int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	uint8_t what = fuzz_u8(driver);
	struct stat st;
	size_t size;

	(void)!fstat(fd, &st);
	if (what == 0xff) {
		errno = EINVAL;
		return -1;
	}
	if (st.st_ino == inodes[ABI_DEV_UVM]) {
		touch(argument, uvm_size((uint32_t)request));
		return 0;
	}
	size = abi_request_size((uint32_t)request);
	touch(argument, size);
	touch_params(abi_request_nr((uint32_t)request), argument);
	/* what it may answer: not its pointer, and no other size of memory than was asked for */
	if (what & 1 && size >= 16)
		fuzz_bytes(driver, argument, 8);
	if (what & 2 && size >= 16)
		put_u32(argument, size - 4, fuzz_u8(driver));
	return 0;
}

bool __wrap_listener_is_valid(int listener, uint64_t id)
{
	return fuzz_u8(driver) != 0xee;
}

bool __wrap_listener_has_more(int listener)
{
	return false;
}

int __wrap_listener_send(int listener, const union response *r)
{
	bool goes_on = r->data.flags & SECCOMP_USER_NOTIF_FLAG_CONTINUE;

	if (r->data.flags & ~(uint32_t)SECCOMP_USER_NOTIF_FLAG_CONTINUE || (goes_on && (r->data.error || r->data.val)) ||
	    r->data.error > 0 || r->data.error < -4095 || (r->data.error && r->data.val))
		abort();
	return 0;
}

/* ---- the caller ---- */

static void *flip(void *arg)
{
	for (uint32_t round = 0;; round++) {
		if (!__atomic_load_n(&flipping, __ATOMIC_ACQUIRE)) {
			usleep(50);
			continue;
		}
		for (size_t i = 0; i < FLIPS; i++) {
			uint32_t *word = __atomic_load_n(&flips[i].word, __ATOMIC_RELAXED);

			if (word)
				__atomic_store_n(word, __atomic_load_n(&flips[i].values[round & 1], __ATOMIC_RELAXED),
						 __ATOMIC_RELAXED);
		}
	}
	return NULL;
}

static void make_files(void)
{
	for (int kind = 0; kind < FILES; kind++) {
		int fd = memfd_create("file", MFD_CLOEXEC);
		struct stat st;

		if (fd < 0 || dup2(fd, FILE_FIRST + kind) < 0 || fstat(fd, &st) < 0)
			abort();
		inodes[kind] = st.st_ino;
		close(fd);
	}
}

static void lend(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	munmap(region + HOLE * PAGE, PAGE);
	mprotect(region + CLOSED * PAGE, PAGE, PROT_NONE);
	mprotect(region + READ_ONLY * PAGE, PAGE, PROT_READ);
	for (;;)
		pause();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	pthread_t thread;

	make_files();
	if (mmap(region, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != region)
		abort();
	caller = fork();
	if (caller == 0)
		lend();
	ended = fork();
	if (ended == 0)
		_exit(0);
	if (caller < 0 || ended < 0 || pthread_create(&thread, NULL, flip, NULL) != 0)
		abort();
	return 0;
}

static bool is_lent(uint64_t address, size_t size)
{
	uint64_t at = address - (uint64_t)(uintptr_t)region;

	return at < PAGES * PAGE && size <= PAGES * PAGE - at;
}

static void lend_bytes(uint64_t address, const void *bytes, size_t size)
{
	if (is_lent(address, size))
		memcpy((void *)(uintptr_t)address, bytes, size);
}

/* ---- values: mostly such that the call goes on to where it is interesting ---- */

static uint64_t any_address(struct fuzz *f)
{
	uint8_t kind = fuzz_u8(f);
	uint64_t start = (uint64_t)(uintptr_t)region, at = start + (fuzz_u8(f) % WHOLE) * PAGE;

	switch (kind % 24) {
	case 1:
		return fuzz_u32(f) | (uint64_t)fuzz_u32(f) << 32;
	case 2:
		return UINT64_MAX - fuzz_u8(f);
	case 3:
		return fuzz_u8(f);
	case 4:
		return UINT64_C(0xffff800000000000) + fuzz_u32(f);
	case 5:
	case 6:
		return at - 1 - fuzz_u8(f) % 64;	/* over the edge of a page */
	case 7:
		return start + PAGES * PAGE - fuzz_u8(f);
	case 8:
	case 9:
	case 10:
		return at + fuzz_u8(f) * 8u;
	default:
		return start + WHOLE * PAGE + fuzz_u8(f) * 64u + (kind & 1 ? 0 : 8 * PAGE);
	}
}

enum { CLIENT = (int)0xc1d00001, DEVICE = 0x5c000001, SUBDEVICE, FIRST_OBJECT };

static uint32_t any_handle(struct fuzz *f)
{
	uint8_t which = fuzz_u8(f);

	switch (which % 16) {
	case 0:
	case 1:
		return (uint32_t)CLIENT;
	case 2:
	case 3:
		return DEVICE;
	case 4:
		return SUBDEVICE;
	case 15:
		return fuzz_u32(f);
	default:
		return FIRST_OBJECT + which % 8u;
	}
}

static uint64_t any_length(struct fuzz *f)
{
	static const uint64_t lengths[] = { 2 << 20, 64 << 10, PAGE, 4 << 20, 0, UINT64_C(1) << 29, UINT64_C(1) << 30,
					    UINT64_C(1) << 40, UINT64_MAX, UINT64_MAX - 4095, UINT64_C(1) << 63 };
	uint8_t which = fuzz_u8(f);

	return which < 0xf0 ? lengths[which % (sizeof(lengths) / sizeof(lengths[0]))] : fuzz_u32(f);
}

static uint64_t any_place(struct fuzz *f)
{
	uint8_t which = fuzz_u8(f);

	return which < 0xf0 ? (UINT64_C(1) << 44) + which % 16 * (UINT64_C(1) << 20) : fuzz_u32(f) * UINT64_C(0x100000001);
}

static uint32_t any_count(struct fuzz *f)
{
	static const uint32_t counts[] = { 1, 2, 0, 3, 63, 64, 65, 128, 129, 200, 201, 950, 951, 0x10000, INT32_MAX, UINT32_MAX };
	uint8_t which = fuzz_u8(f);

	return which < 0xf0 ? counts[which % 16] : fuzz_u32(f);
}

static uint32_t any_file(struct fuzz *f, uint32_t kind)
{
	uint8_t which = fuzz_u8(f);

	return which < 0xe0 ? FILE_FIRST + kind : which < 0xf8 ? FILE_FIRST + which % 8u : fuzz_u32(f);
}

static uint32_t any_row(struct fuzz *f, const struct abi_row *rows, size_t count, uint32_t *ret_size)
{
	const struct abi_row *row = &rows[(fuzz_u8(f) | (uint32_t)fuzz_u8(f) << 8) % count];

	*ret_size = row->size;
	return row->number;
}

/* ---- a call: its argument, and parameters where it points to them ---- */

struct made {
	uint8_t argument[9264];
	size_t size;
	uint8_t params[57344];
	size_t params_size;
	uint64_t params_address;
};

/* Those that are judged, with their sizes; any other of the table. */
static uint32_t any_command(struct fuzz *f, struct made *m, uint32_t *ret_size)
{
	size_t count;
	const struct abi_row *rows = abi_controls(&count);

	m->params_size = 64;
	switch (fuzz_u8(f) % 12) {
	case 0:
	case 1:
		*ret_size = layout->fb_info_v2_size;
		put_u32(m->params, FB_INFO_COUNT, any_count(f));
		put_u32(m->params, FB_INFO_V2_LIST, FB_INFO_INDEX_HEAP_FREE);
		return NV2080_CTRL_CMD_FB_GET_INFO_V2;
	case 2:
		*ret_size = FB_INFO_V1_SIZE;
		put_u32(m->params, FB_INFO_COUNT, any_count(f));
		put_u64(m->params, FB_INFO_V1_POINTER, any_address(f));
		return NV2080_CTRL_CMD_FB_GET_INFO;
	case 3:
		*ret_size = PIDS_SIZE;
		put_u32(m->params, PIDS_COUNT, any_count(f));
		put_u32(m->params, PIDS_TABLE, (uint32_t)caller);
		return NV2080_CTRL_CMD_GPU_GET_PIDS;
	case 4:
		*ret_size = PID_INFO_SIZE;
		put_u32(m->params, PID_INFO_COUNT, any_count(f));
		put_u32(m->params, PID_INFO_LIST + PID_INFO_PID, fuzz_u8(f) & 1 ? (uint32_t)caller : 1);
		return NV2080_CTRL_CMD_GPU_GET_PID_INFO;
	case 5:
		*ret_size = layout->util_samples_size;
		return NV2080_CTRL_CMD_PERF_GET_GPUMON_PERFMON_UTIL_SAMPLES_V2;
	case 6:
		*ret_size = DISABLE_SIZE;
		m->params_size = DISABLE_SIZE;
		put_u32(m->params, DISABLE_COUNT, any_count(f));
		put_u32(m->params, DISABLE_CLIENTS, any_handle(f));
		put_u32(m->params, DISABLE_CHANNELS, any_handle(f));
		return NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS;
	case 7:
		*ret_size = layout->gpfifo_schedule_size;
		m->params[0] = fuzz_u8(f);
		return NVA06C_CTRL_CMD_GPFIFO_SCHEDULE;
	case 8:
		*ret_size = 8;
		return NVA06C_CTRL_CMD_SET_TIMESLICE;
	case 9:
		*ret_size = 24;
		put_u32(m->params, 12, any_handle(f));
		put_u32(m->params, 16, any_file(f, ABI_DEV_CTL));
		return 0x3d05;
	case 10:
		*ret_size = 2128;
		m->params_size = 2128;
		put_u32(m->params, 0, any_file(f, ABI_DEV_CTL));
		put_u32(m->params, 76, any_handle(f));
		put_u32(m->params, 80, any_handle(f));
		put_u32(m->params, 2124, any_count(f));
		return 0x3d0b;
	default:
		return any_row(f, rows, count, ret_size);
	}
}

static void make_control(struct fuzz *f, struct made *m)
{
	uint32_t size;

	put_u32(m->argument, CONTROL_CLIENT, any_handle(f));
	put_u32(m->argument, CONTROL_OBJECT, any_handle(f));
	put_u32(m->argument, CONTROL_COMMAND, any_command(f, m, &size));
	put_u64(m->argument, CONTROL_PARAMS, m->params_address);
	put_u32(m->argument, CONTROL_PARAMS_SIZE, fuzz_u8(f) < 0xf0 ? size : any_count(f));
}

static void make_alloc(struct fuzz *f, struct made *m)
{
	static const uint32_t usual[] = { 0x40, 0x40, 0x80, 0x2080, 0xa06c, 0xc86f, 0xda, 0xfe };
	size_t count;
	const struct abi_row *rows = abi_classes(&count);
	uint8_t which = fuzz_u8(f);
	uint32_t unused;

	put_u32(m->argument, ALLOC_ROOT, which & 0x80 ? any_handle(f) : (uint32_t)CLIENT);
	put_u32(m->argument, ALLOC_PARENT, any_handle(f));
	put_u32(m->argument, ALLOC_OBJECT, any_handle(f));
	put_u32(m->argument, ALLOC_CLASS, which & 0x40 ? any_row(f, rows, count, &unused) : usual[which % 8]);
	put_u64(m->argument, ALLOC_PARAMS, m->params_address);
	m->params_size = 512;
	put_u32(m->params, 0, any_handle(f));
	put_u32(m->params, 4, any_handle(f));
	put_u64(m->params, MEMORY_BYTES, any_length(f));
	if (which % 8 == 2)
		put_u32(m->params, DEVICE_ALLOC_DEVICE_ID, any_count(f));
}

static void make_rm(struct fuzz *f, struct made *m, uint32_t nr)
{
	switch (nr) {
	case NV_ESC_RM_CONTROL:
		make_control(f, m);
		break;
	case NV_ESC_RM_ALLOC:
		make_alloc(f, m);
		break;
	case NV_ESC_RM_FREE:
		put_u32(m->argument, FREE_ROOT, (uint32_t)CLIENT);
		put_u32(m->argument, FREE_OBJECT, any_handle(f));
		break;
	case NV_ESC_RM_DUP_OBJECT:
		for (size_t i = 0; i < DUP_FLAGS; i += 4)
			put_u32(m->argument, i, any_handle(f));
		break;
	case NV_ESC_RM_VID_HEAP_CONTROL:
		put_u32(m->argument, HEAP_ROOT, (uint32_t)CLIENT);
		put_u32(m->argument, HEAP_PARENT, DEVICE);
		put_u32(m->argument, HEAP_FUNCTION, fuzz_u8(f) % 32);
		put_u32(m->argument, HEAP_MEMORY, any_handle(f));
		put_u64(m->argument, HEAP_BYTES, any_length(f));
		break;
	default:
		fuzz_bytes(f, m->argument, fuzz_u8(f));
		break;
	}
}

static void make_uvm(struct fuzz *f, struct made *m, uint32_t request)
{
	uint32_t client = layout->uvm_map_external_client;

	m->size = uvm_size(request);
	put_u64(m->argument, UVM_RANGE_BASE, any_place(f));
	put_u64(m->argument, UVM_RANGE_LENGTH, any_length(f));
	if (request != UVM_MAP_EXTERNAL_ALLOCATION)
		return;
	m->argument[24] = fuzz_u8(f);	/* a GPU's UUID */
	put_u64(m->argument, client - 12, any_count(f));
	put_u32(m->argument, client - 4, any_file(f, ABI_DEV_CTL));
	put_u32(m->argument, client, any_handle(f));
	put_u32(m->argument, layout->uvm_map_external_memory, any_handle(f));
}

static uint32_t any_request(struct fuzz *f, uint32_t *ret_kind)
{
	static const uint32_t usual[] = { NV_ESC_RM_CONTROL, NV_ESC_RM_ALLOC, NV_ESC_RM_ALLOC, NV_ESC_RM_FREE, NV_ESC_RM_DUP_OBJECT,
					  NV_ESC_RM_VID_HEAP_CONTROL };
	static const uint32_t usual_uvm[] = { UVM_MAP_EXTERNAL_ALLOCATION, UVM_UNMAP_EXTERNAL, UVM_FREE, UVM_CREATE_EXTERNAL_RANGE,
					      UVM_ALLOC_SEMAPHORE_POOL, UVM_INITIALIZE };
	const struct abi_call *calls;
	const struct abi_row *rows;
	uint32_t nr = usual[fuzz_u8(f) % 6], unused;
	size_t count, i;

	calls = abi_calls(&count);
	switch (fuzz_u8(f) % 8) {
	case 0:
		*ret_kind = fuzz_u8(f) % FILES;
		return fuzz_u32(f);
	case 1:
		*ret_kind = ABI_DEV_UVM;
		rows = abi_uvm_calls(&count);
		return any_row(f, rows, count, &unused);
	case 2:
	case 3:
		*ret_kind = ABI_DEV_UVM;
		return usual_uvm[fuzz_u8(f) % 6];
	case 4:
		calls += fuzz_u8(f) % count;
		break;
	default:
		for (i = fuzz_u8(f) & 1; calls[i].nr != nr; i++)
			;
		calls += i;
		break;
	}
	*ret_kind = calls->on_ctl ? ABI_DEV_CTL : ABI_DEV_GPU;
	return abi_request(calls->nr, calls->size ? calls->size : calls->size_in_layout ?
			   get_u16(layout, calls->size_in_layout) : fuzz_u8(f));
}

/* Bytes of it, wherever they are, become others. */
static void spoil(struct fuzz *f, uint8_t *bytes, size_t size)
{
	uint8_t count = fuzz_u8(f);

	for (uint8_t i = 0; size && i < count % 8 && count & 0x80; i++)
		bytes[fuzz_u32(f) % size] = fuzz_u8(f);
}

static void start_flips(struct fuzz *f, const struct seccomp_data *data, uint64_t params)
{
	uint8_t count = fuzz_u8(f) % (2 * FLIPS);

	for (uint8_t i = 0; i < count && i < FLIPS; i++) {
		uint64_t at = ((i & 1 ? params : data->args[2]) & ~UINT64_C(3)) + fuzz_u8(f) % 32 * 4u;

		if (!is_lent(at, sizeof(uint32_t)))
			continue;
		__atomic_store_n(&flips[i].values[0], *(volatile uint32_t *)(uintptr_t)at, __ATOMIC_RELAXED);
		__atomic_store_n(&flips[i].values[1], fuzz_u8(f) & 1 ? any_handle(f) : any_count(f), __ATOMIC_RELAXED);
		__atomic_store_n(&flips[i].word, (uint32_t *)(uintptr_t)at, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&flipping, count != 0, __ATOMIC_RELEASE);
}

static void stop_flips(void)
{
	__atomic_store_n(&flipping, 0, __ATOMIC_RELEASE);
	for (size_t i = 0; i < FLIPS; i++)
		__atomic_store_n(&flips[i].word, NULL, __ATOMIC_RELAXED);
}

static void fill_ioctl(struct fuzz *f, struct seccomp_data *data)
{
	static struct made m;
	uint32_t kind, request = any_request(f, &kind);

	memset(&m, 0, offsetof(struct made, params) + 4096);
	m.params_size = 0;
	m.params_address = any_address(f);
	m.size = abi_request_size(request) < sizeof(m.argument) ? abi_request_size(request) : sizeof(m.argument);
	if (kind == ABI_DEV_UVM)
		make_uvm(f, &m, request);
	else
		make_rm(f, &m, abi_request_nr(request));
	spoil(f, m.argument, m.size);
	spoil(f, m.params, m.params_size);
	data->nr = SYS_ioctl;
	data->args[0] = any_file(f, kind);
	data->args[1] = request;
	data->args[2] = any_address(f);
	/* parameters first: where both stand in one place, the argument wins */
	lend_bytes(m.params_address, m.params, m.params_size);
	lend_bytes(data->args[2], m.argument, m.size);
	start_flips(f, data, m.params_address);
}

static void fill_mmap(struct fuzz *f, struct seccomp_data *data)
{
	data->nr = SYS_mmap;
	data->args[0] = (uint64_t)fuzz_u32(f) << (fuzz_u8(f) % 48);
	data->args[1] = (uint64_t)fuzz_u32(f) << (fuzz_u8(f) % 40);
	data->args[3] = MAP_SHARED | (fuzz_u8(f) & 1 ? MAP_FIXED : 0);
	data->args[4] = (uint64_t)FILE_FIRST + (fuzz_u8(f) & 7 ? ABI_DEV_UVM : fuzz_u8(f) % FILES);
	data->args[5] = fuzz_u8(f) & 7 ? data->args[0] : fuzz_u32(f);
}

static void one_call(struct fuzz *f, struct serving *serving)
{
	union notification n = { .data = { .id = 1, .data = { .arch = ARCH } } };
	uint8_t who = fuzz_u8(f);

	n.data.pid = (uint32_t)(who == 0xfe ? ended : who == 0xfd ? INT32_MAX : caller);
	if (who % 16)
		fill_ioctl(f, &n.data.data);
	else
		fill_mmap(f, &n.data.data);
	driver = f;
	serve_answer(serving, &n);
	stop_flips();
}

/* An address space and a device with its subdevice, as a program has them. */
static void begin(struct serving *serving)
{
	union notification n = { .data = { .id = 1, .pid = (uint32_t)caller, .data = { .arch = ARCH, .nr = SYS_ioctl } } };
	static const uint8_t none[1];
	struct fuzz nothing = { none, 0 };
	uint64_t argument = (uint64_t)(uintptr_t)region + WHOLE * PAGE, params = argument + PAGE;
	uint8_t bytes[ALLOC_LONG_MAX] = { 0 };

	driver = &nothing;
	n.data.data.args[0] = FILE_FIRST + ABI_DEV_UVM;
	n.data.data.args[1] = UVM_INITIALIZE;
	n.data.data.args[2] = argument;
	lend_bytes(argument, bytes, UVM_INITIALIZE_SIZE);
	serve_answer(serving, &n);
	n.data.data.args[0] = FILE_FIRST + ABI_DEV_CTL;
	n.data.data.args[1] = abi_request(NV_ESC_RM_ALLOC, ALLOC_SHORT_SIZE);
	lend_bytes(params, bytes, sizeof(bytes));
	for (int i = 0; i < 2; i++) {
		put_u32(bytes, ALLOC_ROOT, (uint32_t)CLIENT);
		put_u32(bytes, ALLOC_PARENT, i ? DEVICE : (uint32_t)CLIENT);
		put_u32(bytes, ALLOC_OBJECT, i ? SUBDEVICE : DEVICE);
		put_u32(bytes, ALLOC_CLASS, i ? 0x2080 : 0x80);
		put_u64(bytes, ALLOC_PARAMS, params);
		lend_bytes(argument, bytes, ALLOC_SHORT_SIZE);
		serve_answer(serving, &n);
	}
}

static void check(struct supervisor *s)
{
	struct account *account = &s->ledger->ledger->account;
	sigset_t saved;

	if (account_check(account) < 0)
		abort();
	/* The driver here never gives more than was asked. */
	if (account->used_bytes[0] > limit || account->used_bytes[1] > limit)
		abort();
	ledger_lock(s->ledger, &saved);
	for (uint16_t slot = 0; slot < 8; slot++)
		account_drop_owner(account, slot);
	account_drop_orphans(account);
	ledger_unlock(s->ledger, &saved);
	if (account->used_bytes[0] || account->used_bytes[1])
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct supervisor s;
	static const char *const drivers[] = { "515.43.04", "535.216.01", "550.163.01", "580.142", "595.45.04" };
	const struct ledger_gpu gpus[2] = { { .device = 0 }, { .device = 1 } };
	const uint64_t limits[2] = { limit, limit };
	struct fuzz f = { data, size };
	struct ledger_handle ledger;
	struct ledger_settings settings = { .name = "f", .door = "fuzz", .gpu_count = 2, .gpus = gpus, .limits = limits };
	struct supervisor_options options = { .settings = &settings };
	struct error err;

	settings.driver = drivers[fuzz_u8(&f) % 5];
	settings.gpu_count = 1 + fuzz_u8(&f) % 2;
	if (ledger_create(&ledger, NULL, &settings, &err) < 0)
		abort();
	memset(&s, 0, sizeof(s));
	s.ledger = &ledger;
	if (supervisor_prepare(&s, &options, &err) < 0)
		abort();
	layout = &s.engine.layout;
	s.serving.listener = -1;
	begin(&s.serving);
	for (int calls = 0; calls < CALLS && f.size; calls++)
		one_call(&f, &s.serving);
	check(&s);
	for (uint32_t i = 0; i < LEDGER_SLOTS; i++) {
		if (s.processes.entries[i].used)
			process_let_go(&s.processes.entries[i]);
	}
	processes_done(&s.processes);
	supervisor_close(&s);
	ledger_close(&ledger);
	return 0;
}
