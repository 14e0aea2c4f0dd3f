/* SPDX-License-Identifier: Apache-2.0 */
/* Judging notifications: who called, on which file, and what the engine says. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "abi/device.h"
#include "supervisor/filter.h"
#include "supervisor/internal.h"
#include "supervisor/listener.h"
#include "supervisor/replay.h"
#include "supervisor/tree.h"

enum { DOOR_WRITES = 4, DOOR_BYTES = 2048, WINDOW = 2048, WINDOW_MAX = 9280 };

/* What follows the address of a call's argument, read at once: the parameters mostly stand a little above it on the same stack.
 * It is the caller's memory at one moment, so whoever asks twice gets the same. */
struct window {
	uint64_t address;
	size_t size;		/* read; 0: nothing */
	bool is_old;		/* the driver was asked meanwhile */
	uint8_t bytes[WINDOW_MAX];
};

/* A caller, as the engine sees it. */
struct door {
	struct port port;
	struct serving *serving;
	struct supervisor *supervisor;
	struct caller *caller;
	struct window *window;
	uint64_t id;
	uint64_t drops;		/* when the call began */
	int file;
	bool is_proven;		/* the caller was there after all that we read of it */
	bool is_long;		/* others were told that we may be busy for long */
	/* what is to be written when the call is judged: two writes are one system call */
	struct iovec there[DOOR_WRITES];
	uint32_t writes;
	size_t written;
	uint8_t bytes[DOOR_BYTES];
};

static struct door *door_of(struct port *port)
{
	return (struct door *)((char *)port - offsetof(struct door, port));
}

/* The thread waits for us, so its memory is there, unless it was killed and its number is another's: hence the question
 * after reading, before anything is done about it. */
static int door_prove(struct door *d)
{
	d->is_proven = d->is_proven || listener_is_valid(d->serving->listener, d->id);
	return d->is_proven ? 0 : -EFAULT;
}

static void window_init(struct window *w)
{
	w->address = 0;
	w->size = 0;
	w->is_old = false;
}

static void window_read(struct window *w, pid_t tid, uint64_t address, size_t size)
{
	struct iovec here = { w->bytes, size < sizeof(w->bytes) ? size : sizeof(w->bytes) };
	struct iovec there = { (void *)(uintptr_t)address, here.iov_len };
	ssize_t got = process_vm_readv(tid, &here, 1, &there, 1, 0);

	w->address = address;
	w->size = got > 0 ? (size_t)got : 0;
}

/* Where a range stands in the window, NULL when it is not in there as a whole. */
static const uint8_t *window_find(const struct window *w, uint64_t address, size_t size)
{
	if (address < w->address || size > w->size || address - w->address > w->size - size)
		return NULL;
	return w->bytes + (address - w->address);
}

static int door_read(struct port *port, uint64_t address, void *buffer, size_t size)
{
	struct door *d = door_of(port);
	const uint8_t *read = d->window->is_old ? NULL : window_find(d->window, address, size);
	struct iovec here = { buffer, size };
	struct iovec there = { (void *)(uintptr_t)address, size };

	if (read) {
		memcpy(buffer, read, size);
		replay_read(address, buffer, size);
		return 0;
	}
	d->is_proven = false;
	if (size && process_vm_readv(d->caller->tid, &here, 1, &there, 1, 0) != (ssize_t)size)
		return -EFAULT;
	replay_read(address, buffer, size);
	return 0;
}

/* Write what was put off. */
static int door_flush(struct door *d)
{
	struct iovec here = { d->bytes, d->written };
	bool failed;

	if (!d->writes)
		return 0;
	d->is_proven = false;	/* the driver's call took its time */
	failed = door_prove(d) < 0 ||
		 process_vm_writev(d->caller->tid, &here, 1, d->there, d->writes, 0) != (ssize_t)d->written;
	d->writes = 0;
	d->written = 0;
	return failed ? -EFAULT : 0;
}

static int door_write(struct port *port, uint64_t address, const void *buffer, size_t size)
{
	struct door *d = door_of(port);
	const uint8_t *read = window_find(d->window, address, size);
	struct iovec here = { (void *)(uintptr_t)buffer, size };
	struct iovec there = { (void *)(uintptr_t)address, size };

	/* what the driver left as it was */
	if (!size || (read && memcmp(read, buffer, size) == 0))
		return 0;
	replay_written(address, buffer, size);
	if (size <= sizeof(d->bytes) - d->written && d->writes < DOOR_WRITES) {
		memcpy(d->bytes + d->written, buffer, size);
		d->there[d->writes++] = there;
		d->written += size;
		return 0;
	}
	if (door_flush(d) < 0)
		return -EFAULT;
	d->is_proven = false;
	if (door_prove(d) < 0)
		return -EFAULT;
	return process_vm_writev(d->caller->tid, &here, 1, &there, 1, 0) == (ssize_t)size ? 0 : -EFAULT;
}

/* Before the driver is asked, which may take its time. */
static int door_begin(struct door *d)
{
	d->window->is_old = true;
	/* who lives may wait no more: a call that a signal ended comes again as another */
	if (d->serving->is_interruptible)
		d->is_proven = false;
	if (door_prove(d) < 0)
		return -EFAULT;
	if (!d->is_long)
		serve_busy(d->serving);
	d->is_long = true;
	return 0;
}

static int door_real(struct port *port, uint32_t request, void *argument)
{
	struct door *d = door_of(port);
	int value;

	if (door_begin(d) < 0)
		return -EFAULT;
	replay_asked();
	value = ioctl(d->file, (unsigned long)request, argument);
	return value < 0 ? -errno : value;
}

static int door_real_on(struct port *port, int fd, uint32_t request, void *argument)
{
	int value;

	if (door_begin(door_of(port)) < 0)
		return -EFAULT;
	replay_asked();
	value = ioctl(fd, (unsigned long)request, argument);
	return value < 0 ? -errno : value;
}

static int door_borrow(struct port *port, int fd)
{
	struct door *d = door_of(port);

	return caller_file(&d->supervisor->processes, d->caller, fd);
}

static void door_give_back(struct port *port, int fd)
{
	close(fd);
}

static bool door_is_ours(struct port *port, uint32_t pid)
{
	return processes_has(&door_of(port)->supervisor->processes, (pid_t)pid);
}

/* What another thread dropped since the call began counts as well: it was in the way of this one. */
static bool door_reclaim(struct port *port)
{
	struct door *d = door_of(port);

	watch_reclaim(d->supervisor);
	return atomic_load(&d->supervisor->drops) != d->drops;
}

static void door_init(struct door *d, struct serving *serving, uint64_t id, struct caller *caller, struct window *window, int file)
{
	d->port = (struct port){ .read = door_read, .write = door_write, .real = door_real, .borrow = door_borrow,
				 .give_back = door_give_back, .real_on = door_real_on, .is_ours = door_is_ours,
				 .reclaim = door_reclaim };
	d->serving = serving;
	d->supervisor = serving->supervisor;
	d->caller = caller;
	d->window = window;
	d->id = id;
	d->drops = atomic_load(&d->supervisor->drops);
	d->file = file;
	/* A first thread has its process' number, and the copy of its file was had after the window was read by the pidfd of that
	 * process: the number was its own all the time. */
	d->is_proven = caller->tid == caller->pid;
	d->is_long = false;
	d->writes = 0;
	d->written = 0;
}

/* Requests with which the driver gives memory, or changes what a slice may do. On a file that is not the driver's they
 * are answered, not let go on: the caller could put the driver's file in its place between our look and the call. */
static bool is_guarded(const struct supervisor *s, uint32_t request)
{
	const struct abi_call *ctl = abi_call_find(&s->engine.layout, ABI_DEV_CTL, request);
	const struct abi_call *gpu = abi_call_find(&s->engine.layout, ABI_DEV_GPU, request);
	const struct abi_call *call = ctl ? ctl : gpu;
	const struct abi_row *uvm = abi_uvm_find(request);

	if (call && call->effect == ABI_REFUSE)
		return abi_request_nr(request) == NV_ESC_IOCTL_XFER_CMD;
	if (call)
		return call->effect != ABI_PASS && call->effect != ABI_RM_FREE;
	return uvm && uvm->effect != ABI_PASS;
}

static void go_on(struct seccomp_notif_resp *r)
{
	r->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
}

static void answer(struct seccomp_notif_resp *r, int value)
{
	if (value < 0)
		r->error = value;
	else
		r->val = value;
}

/* A call on something else than the driver's files, or on a file that we cannot see. */
static void judge_other(const struct supervisor *s, const struct filter_args *args, int code,
			struct seccomp_notif_resp *r)
{
	if (args->call == FILTER_IOCTL && is_guarded(s, args->request))
		answer(r, code < 0 ? code : -ENOTTY);
	else if (args->call == FILTER_MMAP && code < 0 && code != -EBADF && args->address &&
		 args->address == args->offset)
		answer(r, -EACCES);
	else
		go_on(r);
}

/* Whether a call asks how much memory is left: nobody told us of the last munmap(). */
static bool asks_memory(struct door *d, const struct filter_args *args)
{
	const struct account *account = &d->supervisor->ledger->ledger->account;
	uint32_t command;

	if (args->call != FILTER_IOCTL || abi_request_nr(args->request) != NV_ESC_RM_CONTROL ||
	    !__atomic_load_n(&account->managed_count, __ATOMIC_RELAXED) ||
	    door_read(&d->port, args->argument + CONTROL_COMMAND, &command, sizeof(command)) < 0)
		return false;
	return command == NV2080_CTRL_CMD_FB_GET_INFO || command == NV2080_CTRL_CMD_FB_GET_INFO_V2;
}

static void judge_mmap(struct supervisor *s, struct door *d, const struct filter_args *args, const struct caller *caller,
		       const struct call *call, struct seccomp_notif_resp *r)
{
	int code = engine_mmap(&s->engine, &d->port, call, args->address, args->length, args->flags, args->offset);

	if (code < 0) {
		answer(r, code);
		return;
	}
	if (args->address == args->offset && call->device == ABI_DEV_UVM) {
		pthread_mutex_lock(&s->processes.lock);
		process_booked(caller->process, caller->tid, args->address, args->length);
		pthread_mutex_unlock(&s->processes.lock);
	}
	go_on(r);
}

/* Whose a UVM file is that a process uses without having made it its own: it was inherited or sent, and what is mapped
 * through it lives as long as the other's. */
static uint16_t uvm_owner(struct supervisor *s, const struct process *caller, int file)
{
	uint16_t owner = caller->slot;

	for (uint32_t i = 0; i < LEDGER_SLOTS && owner == caller->slot; i++) {
		const struct process *p = &s->processes.entries[i];
		bool candidate;
		uint16_t slot;
		pid_t pid;

		pthread_mutex_lock(&s->processes.lock);
		candidate = p->used && !p->is_dead && p->has_uvm;
		slot = p->slot;
		pid = p->pid;
		pthread_mutex_unlock(&s->processes.lock);
		if (candidate && process_shares_file(pid, file, "/nvidia-uvm"))
			owner = slot;
	}
	return owner;
}

static bool makes_range(uint32_t request)
{
	return request == UVM_CREATE_EXTERNAL_RANGE || request == UVM_ALLOC_SEMAPHORE_POOL ||
	       request == UVM_MAP_EXTERNAL_ALLOCATION;
}

/* Whose call on nvidia-uvm it is, and on which of its files. */
static void find_uvm(struct door *d, const struct filter_args *args, struct call *call)
{
	struct supervisor *s = d->supervisor;
	struct process *p = d->caller->process;
	bool is_own;

	pthread_mutex_lock(&s->processes.lock);
	if (args->call == FILTER_IOCTL && args->request == UVM_INITIALIZE)
		p->has_uvm = true;
	is_own = p->has_uvm;
	if (is_own)
		call->file = process_uvm_file(&s->processes, p, d->file, args->call == FILTER_IOCTL && makes_range(args->request));
	pthread_mutex_unlock(&s->processes.lock);
	if (!is_own)
		call->owner = uvm_owner(s, p, d->file);
}

/* Whether judging a call changes what we know before the driver is asked, or without asking it. */
static bool changes_first(const struct filter_args *args, enum abi_device device, const struct process *p)
{
	return args->call == FILTER_MMAP || (device == ABI_DEV_UVM && (args->request == UVM_INITIALIZE || p->uvm_copy < 0));
}

static void judge_device(struct door *d, const struct filter_args *args, const struct device *device,
			 struct seccomp_notif_resp *r)
{
	struct supervisor *s = d->supervisor;
	struct caller *caller = d->caller;
	struct call call = {
		.device = device->kind,
		.minor = device->minor,
		.request = args->request,
		.argument = args->argument,
		.owner = caller->process->slot,
	};
	enum engine_verdict verdict = ENGINE_ANSWER;
	int value = 0, failed = 0;

	if (changes_first(args, device->kind, caller->process) && door_prove(d) < 0)
		return;		/* nobody waits for an answer */
	pthread_mutex_lock(&s->processes.lock);
	process_settled(caller->process, caller->tid);
	pthread_mutex_unlock(&s->processes.lock);
	if (device->kind == ABI_DEV_UVM)
		find_uvm(d, args, &call);

	if (asks_memory(d, args))
		watch_managed(s);
	pthread_rwlock_rdlock(&s->calls);
	if (args->call != FILTER_MMAP) {
		verdict = engine_ioctl(&s->engine, &d->port, &call, &value);
		if (verdict != ENGINE_CONTINUE)
			replay_valued(value);
		failed = door_flush(d);
	}
	if (args->call == FILTER_MMAP) {
		judge_mmap(s, d, args, caller, &call, r);
	} else if (failed < 0) {
		answer(r, failed);
	} else if (verdict == ENGINE_CONTINUE) {
		go_on(r);
		/* another thread may make something else of its arguments: look soon at what came of it */
		if (device->kind != ABI_DEV_UVM && abi_request_nr(args->request) == NV_ESC_RM_ALLOC)
			atomic_store(&s->is_look_due, true);
	} else {
		answer(r, value);
	}
	pthread_rwlock_unlock(&s->calls);

	if (!atomic_exchange(&s->is_dirty, true))
		eventfd_write(s->wake, 1);
}

/* Whether a call goes on whatever file it is made on: then it needs no look at that, nor at who made it. A control tells by its
 * argument, which is read. */
static bool passes(const struct supervisor *s, const struct filter_args *args, pid_t tid, struct window *window)
{
	const struct abi_call *call;

	if (args->call == FILTER_MMAP)
		return args->address != args->offset;	/* managed memory is nowhere else (engine_mmap) */
	if (engine_passes(&s->engine, args->request))
		return true;
	window_read(window, tid, args->argument,
		    args->request == UVM_MAP_EXTERNAL_ALLOCATION ? s->engine.layout.uvm_map_external_size : WINDOW);
	call = abi_call_find(&s->engine.layout, ABI_DEV_CTL, args->request);
	return call && call->effect == ABI_RM_CONTROL && window->size >= CONTROL_SIZE && engine_passes_control(window->bytes);
}

/* The caller, and a copy of the file of its call: found by its number last time, or anew when that is another's by now. */
static int find_caller(struct supervisor *s, pid_t tid, int fd, struct caller *ret_caller)
{
	int file = -1;

	for (int attempt = 0; attempt < 2; attempt++) {
		int code = caller_find(&s->processes, tid, ret_caller);

		if (code < 0)
			return code;
		file = caller_file(&s->processes, ret_caller, fd);
		if (file != -ESRCH)
			break;
		processes_forget_thread(&s->processes, ret_caller->tid);
		if (attempt == 0)
			caller_done(&s->processes, ret_caller);
	}
	return file;
}

static void judge(struct serving *serving, const struct seccomp_notif *n, struct seccomp_notif_resp *r)
{
	struct supervisor *s = serving->supervisor;
	struct filter_args args;
	struct caller caller = { .pidfd = -1 };
	struct window window;
	struct device device;
	struct door d;
	int code, file;

	window_init(&window);
	filter_decode(&n->data, &args);
	if (args.call == FILTER_OTHER) {
		answer(r, -ENOSYS);
		return;
	}
	atomic_fetch_add(&s->judged, 1);
	if (passes(s, &args, (pid_t)n->pid, &window)) {
		go_on(r);
		return;
	}
	file = find_caller(s, (pid_t)n->pid, args.fd, &caller);
	/* one that we do not know yet is made known: it must not be another that has its number, since it was killed */
	if (file >= 0 && !caller.process && !listener_is_valid(serving->listener, n->id)) {
		close(file);
		file = -ESRCH;
	}
	if (file < 0) {
		judge_other(s, &args, file, r);
	} else if (!device_find(file, &device)) {
		judge_other(s, &args, 0, r);
	} else {
		code = caller_enter(&s->processes, &caller);
		if (code < 0) {
			answer(r, code);
		} else {
			door_init(&d, serving, n->id, &caller, &window, file);
			judge_device(&d, &args, &device, r);
		}
	}
	/* a copy that stays would keep the memory of a program that was killed */
	if (file >= 0)
		close(file);
	caller_done(&s->processes, &caller);
}

void serve_answer(struct serving *serving, const union notification *n)
{
	union response r;

	memset(&r, 0, sizeof(r));
	r.data.id = n->data.id;
	if (!serving->is_interruptible) {
		judge(serving, &n->data, &r.data);
		listener_send(serving->listener, &r);
		return;
	}
	replay_begin(&n->data);
	if (!replay_answers(serving->listener, &n->data, &r.data))
		judge(serving, &n->data, &r.data);
	if (listener_send(serving->listener, &r) == -ENOENT)
		replay_keep(&n->data);
	else
		replay_sent(&n->data);
	replay_end();
}
