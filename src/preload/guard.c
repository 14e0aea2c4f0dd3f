/* SPDX-License-Identifier: Apache-2.0 */
/* The judge behind the interposed calls. */
#include "preload/guard.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "abi/device.h"
#include "preload/debug.h"
#include "preload/maps.h"
#include "preload/memory.h"
#include "preload/process.h"
#include "preload/raw.h"
#include "preload/slice.h"

#ifndef MAP_FIXED_NOREPLACE	/* Linux 4.17 */
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/* One call on its way through the engine. */
struct door {
	struct port port;
	int fd;
	unsigned long request;
	void *argument;
	uint16_t owner;
	uint32_t mapping;	/* managed mmaps of this very call: 0 or 1 */
	int pid_count;		/* -1: not looked up yet */
	int32_t pids[LEDGER_SLOTS];
};

static struct door *door_of(struct port *port)
{
	return (struct door *)port;	/* its first member */
}

static int port_read(struct port *port, uint64_t address, void *buffer, size_t size)
{
	return memory_read(address, buffer, size);
}

static int port_write(struct port *port, uint64_t address, const void *buffer, size_t size)
{
	return memory_write(address, buffer, size);
}

static int port_real(struct port *port, uint32_t request, void *argument)
{
	return (int)SYS_CALL(SYS_ioctl, door_of(port)->fd, (unsigned long)request, argument);
}

static int port_original(struct port *port)
{
	struct door *door = door_of(port);

	return (int)SYS_CALL(SYS_ioctl, door->fd, door->request, door->argument);
}

/* The slice's processes, looked up once a call. */
static void find_pids(struct door *door)
{
	const struct ledger *ledger = slice.ledger.ledger;

	door->pids[0] = sys_getpid();
	door->pid_count = 1;
	if (slice_attach_now() < 0)
		return;
	for (uint16_t slot = 0; slot < LEDGER_SLOTS && door->pid_count < LEDGER_SLOTS; slot++) {
		int32_t pid;

		if (slot == door->owner ||
		    __atomic_load_n(&ledger->slots[slot].state, __ATOMIC_RELAXED) != SLOT_LIVE)
			continue;
		pid = ledger_slot_pid(&slice.ledger, slot);
		if (pid > 0)
			door->pids[door->pid_count++] = pid;
	}
}

static bool port_is_ours(struct port *port, uint32_t pid)
{
	struct door *door = door_of(port);

	if (door->pid_count < 0)
		find_pids(door);
	for (int i = 0; i < door->pid_count; i++) {
		if ((uint32_t)door->pids[i] == pid)
			return true;
	}
	return false;
}

static uint64_t used_bytes(const struct account *account)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < account->gpu_count && i < ACCOUNT_GPUS; i++)
		sum += account->used_bytes[i];
	return sum;
}

/* Give back managed memory of addresses that were seen unmapped, unless a thread has begun to map managed
 * memory since it was seen (mapped differs) or is at it: those addresses may be in use again. What is kept
 * here is found by the next reclaim. Returns whether something went. */
static bool managed_gone(struct door *door, uint64_t address, uint64_t length, uint32_t mapped)
{
	struct account *account = &slice.ledger.ledger->account;
	struct process *process = process_get();
	uint64_t before, after;
	sigset_t saved;

	ledger_lock(&slice.ledger, &saved);
	before = after = used_bytes(account);
	/* counted up before memory is booked, which needs the lock that we have */
	if (__atomic_load_n(&process->mapping, __ATOMIC_SEQ_CST) == door->mapping &&
	    __atomic_load_n(&process->mapped, __ATOMIC_SEQ_CST) == mapped) {
		account_unmap(account, HOLD_MANAGED, door->owner, address, length);
		after = used_bytes(account);
	}
	ledger_unlock(&slice.ledger, &saved);
	return after < before;
}

/* A walk over our mappings that gives back what lies between the managed ones. */
struct gaps {
	struct door *door;
	uint64_t end;		/* of the last managed mapping */
	uint32_t mapped;
	bool has_dropped;
};

static bool drop_gap(const struct maps_entry *entry, void *arg)
{
	struct gaps *gaps = arg;

	/* what managed memory looks like, under any name of the file */
	if (!entry->is_shared || entry->offset != entry->start)
		return true;
	if (entry->start > gaps->end)
		gaps->has_dropped |= managed_gone(gaps->door, gaps->end, entry->start - gaps->end,
						  gaps->mapped);
	gaps->end = entry->end;
	return true;
}

static bool port_reclaim(struct port *port)
{
	struct door *door = door_of(port);
	struct gaps gaps = { .door = door };
	sigset_t saved;
	bool has_reaped;

	if (slice_attach_now() < 0)
		return false;
	ledger_lock(&slice.ledger, &saved);
	has_reaped = ledger_reap(&slice.ledger) > 0;
	ledger_unlock(&slice.ledger, &saved);
	if (!engine_has_managed(&slice.engine, door->owner))
		return has_reaped;
	gaps.mapped = __atomic_load_n(&process_get()->mapped, __ATOMIC_SEQ_CST);
	if (maps_each(drop_gap, &gaps) == 0)
		gaps.has_dropped |= managed_gone(door, gaps.end, UINT64_MAX - gaps.end, gaps.mapped);
	return has_reaped || gaps.has_dropped;
}

static void door_init(struct door *door, int fd, int slot)
{
	door->port = (struct port){
		.read = port_read,
		.write = port_write,
		.real = port_real,
		.original = port_original,
		.is_ours = port_is_ours,
		.reclaim = port_reclaim,
	};
	door->fd = fd;
	door->owner = (uint16_t)slot;
	door->mapping = 0;
	door->pid_count = -1;
}

static void note_call(const struct call *call, int value)
{
	struct debug_line line = { 0 };

	if (!debug_has_calls())
		return;
	debug_text(&line, "ioctl device=");
	debug_number(&line, call->device);
	debug_text(&line, " minor=");
	debug_number(&line, call->minor);
	debug_text(&line, " request=");
	debug_hex(&line, call->request);
	debug_text(&line, " value=");
	debug_number(&line, value);
	debug_write(&line);
}

/* What descriptors were seen to be: kind and minor, 0 for unknown. A descriptor may come to be another file behind our back
 * (dup2(), close_range()), so this is believed for requests alone that only the same kind of file understands: any other file
 * answers such a call as it would have without us. */
enum { FDS_SEEN = 1024, SEEN_MINOR_SHIFT = 4 };

static uint16_t fds_seen[FDS_SEEN];

/* UVM files have numbers of their own, since a descriptor's comes again when it was closed. */
static uint16_t uvm_files[FDS_SEEN], uvm_file_count;

static uint32_t uvm_file(int fd)
{
	uint16_t number, none = 0;

	if (fd < 0 || fd >= FDS_SEEN)
		return 0;
	number = __atomic_load_n(&uvm_files[fd], __ATOMIC_RELAXED);
	if (number)
		return number;
	number = __atomic_add_fetch(&uvm_file_count, 1, __ATOMIC_RELAXED);
	/* 0 after 65535 files: not known */
	if (!number || __atomic_compare_exchange_n(&uvm_files[fd], &none, number, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return number;
	return none;
}

static long judge_ioctl(const struct device *device, int fd, unsigned long request, void *argument)
{
	struct call call = {
		.device = device->kind,
		.minor = device->minor,
		.request = (uint32_t)request,
		.argument = (uint64_t)(uintptr_t)argument,
	};
	struct door door;
	int slot = slice_attach();
	int value;

	if (slot < 0)
		return -EACCES;
	__atomic_fetch_add(&slice.ledger.ledger->slots[slot].calls, 1, __ATOMIC_RELAXED);
	door_init(&door, fd, slot);
	door.request = request;
	door.argument = argument;
	call.owner = door.owner;
	if (device->kind == ABI_DEV_UVM)
		call.file = uvm_file(fd);
	if (engine_ioctl(&slice.engine, &door.port, &call, &value) == ENGINE_CONTINUE)
		value = port_original(&door.port);
	note_call(&call, value);
	return value;
}

static bool is_theirs_alone(enum abi_device kind, unsigned long request)
{
	if (kind == ABI_DEV_UVM)
		return (request >= UVM_REGISTER_CHANNEL && request < 0x100) || request == UVM_INITIALIZE;
	return (kind == ABI_DEV_CTL || kind == ABI_DEV_GPU) &&
	       request == abi_request(abi_request_nr((uint32_t)request), abi_request_size((uint32_t)request)) &&
	       abi_request_nr((uint32_t)request) >= NV_ESC_RM_ALLOC_MEMORY;
}

static bool find_device(int fd, unsigned long request, struct device *ret)
{
	uint16_t seen = fd >= 0 && fd < FDS_SEEN ? __atomic_load_n(&fds_seen[fd], __ATOMIC_RELAXED) : 0;

	ret->kind = seen & ((1 << SEEN_MINOR_SHIFT) - 1);
	ret->minor = seen >> SEEN_MINOR_SHIFT;
	if (seen && is_theirs_alone(ret->kind, request))
		return true;
	if (!device_find(fd, ret))
		return false;
	if (fd < FDS_SEEN && ret->minor < UINT16_MAX >> SEEN_MINOR_SHIFT)
		__atomic_store_n(&fds_seen[fd], (uint16_t)(ret->kind | ret->minor << SEEN_MINOR_SHIFT), __ATOMIC_RELAXED);
	return true;
}

void guard_forget(int fd)
{
	if (fd < 0 || fd >= FDS_SEEN || !__atomic_load_n(&fds_seen[fd], __ATOMIC_RELAXED))
		return;
	__atomic_store_n(&fds_seen[fd], 0, __ATOMIC_RELAXED);
	__atomic_store_n(&uvm_files[fd], 0, __ATOMIC_RELAXED);
}

long guard_ioctl(int fd, unsigned long request, void *argument)
{
	struct device device;

	if (!find_device(fd, request, &device))
		return SYS_CALL(SYS_ioctl, fd, request, argument);
	return judge_ioctl(&device, fd, request, argument);
}

/* Take a place with memory that nobody may touch. *ret_was_free tells whether nothing was there before. */
static long take_place(uint64_t place, size_t length, int flags, bool *ret_was_free)
{
	const int reserve = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	long where = raw_mmap(place, length, PROT_NONE, reserve | MAP_FIXED_NOREPLACE, -1, 0);

	if (!raw_is_error(where) && (uint64_t)where != place) {
		SYS_CALL(SYS_munmap, where, length);	/* a kernel without MAP_FIXED_NOREPLACE */
		where = -EEXIST;
	}
	*ret_was_free = where != -EEXIST;
	if (where != -EEXIST || (flags & MAP_FIXED_NOREPLACE))
		return where;
	if (!(flags & MAP_FIXED))
		return -EINVAL;		/* as the driver says of the other place that would be chosen */
	return raw_mmap(place, length, PROT_NONE, reserve | MAP_FIXED, -1, 0);
}

/* Map the UVM file. The driver wants offset == address (uvm.c, uvm_mmap), so where it will be is known
 * before.
 *
 * The place is taken first: what was there, managed or not, is then gone for certain, nothing else can come
 * there, and a refusal leaves no hole in what the program thinks is its own. */
static long map_managed(const struct device *device, struct door *door, size_t length, int prot, int flags,
			int fd, uint64_t place)
{
	struct call call = { .device = device->kind, .minor = device->minor, .owner = door->owner, .file = uvm_file(fd) };
	bool was_free;
	long where = take_place(place, length, flags, &was_free);
	int r;

	if (raw_is_error(where))
		return where;
	flags = (flags & ~MAP_FIXED_NOREPLACE) | MAP_FIXED;
	length = (length + 4095) & ~(size_t)4095;
	engine_unmapped(&slice.engine, door->owner, place, length);
	r = engine_mmap(&slice.engine, &door->port, &call, place, length, flags, place);
	where = r < 0 ? r : raw_mmap(place, length, prot, flags, fd, (int64_t)place);
	if (!raw_is_error(where))
		return where;
	if (r == 0)
		engine_unmapped(&slice.engine, door->owner, place, length);
	if (was_free)
		SYS_CALL(SYS_munmap, place, length);
	return where;
}

static long judge_mmap(const struct device *device, uint64_t address, size_t length, int prot, int flags,
		       int fd, int64_t offset)
{
	struct process *process;
	struct door door;
	int slot = slice_attach();
	long result;

	if (slot < 0)
		return -EACCES;
	if (address != (uint64_t)offset || !length)
		return -EINVAL;		/* as the driver says */
	door_init(&door, fd, slot);
	door.mapping = 1;
	process = process_get();
	__atomic_add_fetch(&process->mapping, 1, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&process->mapped, 1, __ATOMIC_SEQ_CST);
	result = map_managed(device, &door, length, prot, flags, fd, address);
	__atomic_sub_fetch(&process->mapping, 1, __ATOMIC_SEQ_CST);
	return result;
}

/* Make a system call that takes a range of addresses away, and give back the managed memory in it. */
static long without_range(uint64_t address, size_t length, long (*call)(void *arg), void *arg)
{
	struct door door;
	uint32_t mapped;
	long result;
	int slot = slice_owner();

	if (slot < 0 || !engine_has_managed(&slice.engine, (uint16_t)slot))
		return call(arg);
	door_init(&door, -1, slot);
	mapped = __atomic_load_n(&process_get()->mapped, __ATOMIC_SEQ_CST);
	result = call(arg);
	if (!raw_is_error(result))
		managed_gone(&door, address, (length + 4095) & ~(size_t)4095, mapped);
	return result;
}

struct mmap_arguments {
	void *address;
	size_t length;
	int prot, flags, fd;
	int64_t offset;
};

static long real_mmap(void *arg)
{
	const struct mmap_arguments *m = arg;

	return raw_mmap((uint64_t)(uintptr_t)m->address, m->length, m->prot, m->flags, m->fd, m->offset);
}

long guard_mmap(void *address, size_t length, int prot, int flags, int fd, int64_t offset)
{
	struct mmap_arguments m = { address, length, prot, flags, fd, offset };
	uint64_t start = (uint64_t)(uintptr_t)address;
	struct device device;

	if (fd >= 0 && (flags & MAP_SHARED) && !(flags & MAP_ANONYMOUS) && device_find(fd, &device) &&
	    device.kind == ABI_DEV_UVM)
		return judge_mmap(&device, start, length, prot, flags, fd, offset);
	if ((flags & MAP_FIXED) && !(flags & MAP_FIXED_NOREPLACE))
		return without_range(start, length, real_mmap, &m);
	return real_mmap(&m);
}

static long real_munmap(void *arg)
{
	const struct mmap_arguments *m = arg;

	return SYS_CALL(SYS_munmap, m->address, m->length);
}

long guard_munmap(void *address, size_t length)
{
	struct mmap_arguments m = { .address = address, .length = length };

	return without_range((uint64_t)(uintptr_t)address, length, real_munmap, &m);
}

bool guard_is_ledger(int fd)
{
	struct stat st;

	/* A forked child that closes everything closes the driver's files, too: then its copy must go. */
	return fd >= 0 && fd == slice.ledger.fd && slice_owner() >= 0 && SYS_CALL(SYS_fstat, fd, &st) == 0 &&
	       st.st_dev == slice.ledger.dev && st.st_ino == slice.ledger.ino;
}
