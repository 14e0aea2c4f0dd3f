/* SPDX-License-Identifier: Apache-2.0 */
/* Records what a program asks of the driver, in the format of traces/README.md: LD_PRELOAD=librecord.so RECORD=PATH PROGRAM
 *
 * Each process writes PATH.PID.jsonl. Arguments are kept for calls that mean something to us by the tables of src/abi, and
 * their parameters likewise; of all others only the numbers, so that no serial number or UUID gets into a recording. */
#undef _FILE_OFFSET_BITS	/* it renames mmap to mmap64 */
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "abi/calls.h"
#include "base/bytes.h"
#include "rm/version.h"

#define EXPORT __attribute__((visibility("default")))

enum { PARAMS_MAX = 16384, ARGUMENT_MAX = 9264, LINE_MAX_BYTES = 4 * (PARAMS_MAX + ARGUMENT_MAX), MAPS = 4096, PATH_ROOM = 256 };

EXPORT int ioctl(int fd, unsigned long request, ...);
EXPORT void *mmap64(void *address, size_t length, int prot, int flags, int fd, off_t offset);
EXPORT void trace_phase(const char *name);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char line[LINE_MAX_BYTES];
static size_t used;
static int out = -1;
static pid_t out_pid;
static struct abi_layout layout;
static void *maps[MAPS];
static size_t map_count;

/* What a call leaves to write down. */
struct kept {
	const uint8_t *argument;	/* the program's own */
	size_t size;
	const uint8_t *params;
	size_t params_size;
	uint8_t argument_before[ARGUMENT_MAX], params_before[PARAMS_MAX];
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static bool device_path(int fd, char path[PATH_ROOM])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, PATH_ROOM - 1);
	path[n > 0 ? n : 0] = '\0';
	return strncmp(path, "/dev/nvidia", 11) == 0;
}

__attribute__((format(printf, 1, 2))) static void put(const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line + used, sizeof(line) - used, format, args);
	va_end(args);
	if (n > 0 && (size_t)n < sizeof(line) - used)
		used += (size_t)n;
}

static void put_hex(const char *key, const uint8_t *bytes, size_t size)
{
	static const char digits[] = "0123456789abcdef";

	put(",\"%s\":\"", key);
	for (size_t i = 0; i < size && used + 4 < sizeof(line); i++) {
		line[used++] = digits[bytes[i] >> 4];
		line[used++] = digits[bytes[i] & 15];
	}
	put("\"");
}

/* Write the line that was put together. A forked child begins a file of its own. */
static void put_line(void)
{
	char path[PATH_ROOM];

	if (out_pid != getpid()) {
		snprintf(path, sizeof(path), "%s.%d.jsonl", getenv("RECORD") ? getenv("RECORD") : "record", getpid());
		out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
		out_pid = getpid();
	}
	if (write(out, line, used) < 0)
		out = -1;
	used = 0;
}

void trace_phase(const char *name)
{
	pthread_mutex_lock(&lock);
	put("{\"phase\":\"%s\"}\n", name);
	put_line();
	pthread_mutex_unlock(&lock);
}

/* Layouts by the driver's version, where it can be told; those of 580 otherwise. */
static void learn_layout(void)
{
	struct abi_version version;
	struct error err;
	char text[32];

	if (rm_version_find(-1, text, &err) < 0)
		memcpy(text, "580.159.04", sizeof("580.159.04"));
	if (abi_version_parse(text, &version) == 0)
		abi_layout_find(version, &layout);
}

static __attribute__((constructor)) void at_load(void)
{
	learn_layout();
}

static size_t class_size(uint32_t class_id)
{
	const struct abi_row *row = abi_class_find(class_id);

	if (!row || row->effect == ABI_PASS)
		return 0;
	switch ((int)row->effect) {
	case ABI_CLASS_DEVICE:
		return DEVICE_ALLOC_SIZE;
	case ABI_CLASS_SUBDEVICE:
		return SUBDEVICE_ALLOC_SIZE;
	case ABI_CLASS_VIDMEM:
		return layout.memory_alloc_size;
	case ABI_CLASS_GROUP:
		return GROUP_ALLOC_SIZE;
	case ABI_CLASS_CHANNEL:
		return layout.channel_alloc_size;
	default:
		return row->size;
	}
}

static void keep_rm(struct kept *kept, uint32_t nr)
{
	const struct abi_row *row;

	if (nr == NV_ESC_RM_ALLOC) {
		kept->params_size = class_size(get_u32(kept->argument, ALLOC_CLASS));
		kept->params = (const uint8_t *)(uintptr_t)get_u64(kept->argument, ALLOC_PARAMS);
	} else if (nr == NV_ESC_RM_CONTROL) {
		row = abi_control_find(get_u32(kept->argument, CONTROL_COMMAND));
		if (row && row->effect != ABI_PASS)
			kept->params_size = get_u32(kept->argument, CONTROL_PARAMS_SIZE);
		kept->params = (const uint8_t *)(uintptr_t)get_u64(kept->argument, CONTROL_PARAMS);
	}
	if (!kept->params || kept->params_size > PARAMS_MAX)
		kept->params_size = 0;
}

static size_t uvm_size(uint32_t request)
{
	switch (request) {
	case UVM_MAP_EXTERNAL_ALLOCATION:
		return layout.uvm_map_external_size;
	case UVM_FREE:
		return layout.uvm_free_size;
	case UVM_ALLOC_SEMAPHORE_POOL:
		return layout.uvm_semaphore_pool_size;
	case UVM_CREATE_EXTERNAL_RANGE:
		return 24;
	case UVM_UNMAP_EXTERNAL:
		return UVM_UNMAP_EXTERNAL_SIZE;
	case UVM_INITIALIZE:
		return UVM_INITIALIZE_SIZE;
	default:
		return 0;
	}
}

static void keep(struct kept *kept, const char *path, uint32_t request, const void *argument)
{
	const struct abi_call *call;

	kept->size = kept->params_size = 0;
	kept->params = NULL;
	kept->argument = argument;
	if (!argument)
		return;
	if (strstr(path, "uvm")) {
		kept->size = uvm_size(request);
	} else {
		call = abi_call_find(&layout, strcmp(path, "/dev/nvidiactl") ? ABI_DEV_GPU : ABI_DEV_CTL, request);
		if (call && (call->effect != ABI_PASS || call->nr == NV_ESC_RM_SHARE || call->nr == NV_ESC_REGISTER_FD))
			kept->size = abi_request_size(request);
		if (kept->size)
			keep_rm(kept, abi_request_nr(request));
	}
	if (kept->size > ARGUMENT_MAX)
		kept->size = 0;
	memcpy(kept->argument_before, kept->argument, kept->size);
	memcpy(kept->params_before, kept->params, kept->params_size);
}

int ioctl(int fd, unsigned long request, ...)
{
	static __thread struct kept kept;
	char path[PATH_ROOM];
	uint64_t before, took;
	void *argument;
	va_list list;
	long r;

	va_start(list, request);
	argument = va_arg(list, void *);
	va_end(list);
	if (!device_path(fd, path))
		return (int)syscall(SYS_ioctl, fd, request, argument);
	keep(&kept, path, (uint32_t)request, argument);
	before = now_us();
	r = syscall(SYS_ioctl, fd, request, argument);
	took = now_us() - before;
	pthread_mutex_lock(&lock);
	put("{\"t\":%llu,\"us\":%llu,\"tid\":%ld,\"op\":\"ioctl\",\"fd\":%d,\"dev\":\"%s\",\"req\":\"0x%x\",\"ret\":%ld",
	    (unsigned long long)before, (unsigned long long)took, syscall(SYS_gettid), fd, path, (unsigned int)request, r);
	if (kept.size) {
		put_hex("in", kept.argument_before, kept.size);
		put_hex("out", kept.argument, kept.size);
	}
	if (kept.params_size) {
		put_hex("pin", kept.params_before, kept.params_size);
		put_hex("pout", kept.params, kept.params_size);
	}
	put("}\n");
	put_line();
	pthread_mutex_unlock(&lock);
	return (int)r;
}

static void *map(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	long r = syscall(SYS_mmap, address, length, (long)prot, (long)flags, (long)fd, offset);
	char path[PATH_ROOM];

	if (fd < 0 || !device_path(fd, path))
		return (void *)r;
	pthread_mutex_lock(&lock);
	if (r != -1 && map_count < MAPS)
		maps[map_count++] = (void *)r;
	put("{\"t\":%llu,\"op\":\"mmap\",\"fd\":%d,\"dev\":\"%s\",\"addr\":\"%p\",\"len\":%zu,\"prot\":%d,\"flags\":%d,"
	    "\"off\":\"0x%lx\",\"ret\":\"0x%lx\"}\n", (unsigned long long)now_us(), fd, path, address, length, prot, flags,
	    (long)offset, r);
	put_line();
	pthread_mutex_unlock(&lock);
	return (void *)r;
}

EXPORT void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return map(address, length, prot, flags, fd, offset);
}

void *mmap64(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return map(address, length, prot, flags, fd, offset);
}

EXPORT int munmap(void *address, size_t length)
{
	long r = syscall(SYS_munmap, address, length);
	bool is_ours = false;

	/* the allocator unmaps, too, perhaps below us: nothing but a look at the table before the lock is taken */
	for (size_t i = 0; i < map_count; i++)
		is_ours |= maps[i] == address;
	if (!is_ours)
		return (int)r;
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < map_count; i++) {
		if (maps[i] == address)
			maps[i] = maps[--map_count];
	}
	put("{\"t\":%llu,\"op\":\"munmap\",\"addr\":\"%p\",\"len\":%zu,\"ret\":%ld}\n", (unsigned long long)now_us(),
	    address, length, r);
	put_line();
	pthread_mutex_unlock(&lock);
	return (int)r;
}

EXPORT int close(int fd)
{
	char path[PATH_ROOM];
	bool is_device = device_path(fd, path);
	long r = syscall(SYS_close, fd);

	if (!is_device)
		return (int)r;
	pthread_mutex_lock(&lock);
	put("{\"t\":%llu,\"op\":\"close\",\"fd\":%d,\"dev\":\"%s\",\"ret\":%ld}\n", (unsigned long long)now_us(), fd, path, r);
	put_line();
	pthread_mutex_unlock(&lock);
	return (int)r;
}
