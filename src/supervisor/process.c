/* SPDX-License-Identifier: Apache-2.0 */
/* The supervised processes that use the GPU. */
#include "supervisor/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

enum { PIDFD_OF_THREAD = O_EXCL };	/* PIDFD_THREAD, Linux 6.9 */

uint64_t clock_ms(void)
{
	return monotonic_ns() / 1000000;
}

int processes_init(struct processes *ps, struct ledger_handle *ledger, int epoll)
{
	memset(ps, 0, sizeof(*ps));
	ps->ledger = ledger;
	ps->epoll = epoll;
	ps->self = getpid();
	return -pthread_mutex_init(&ps->lock, NULL);
}

void processes_done(struct processes *ps)
{
	for (uint32_t i = 0; i < LEDGER_SLOTS; i++) {
		if (ps->entries[i].used)
			close(ps->entries[i].pidfd);
	}
	pthread_mutex_destroy(&ps->lock);
}

/* The process of a thread, from /proc/TID/status. */
static pid_t thread_group(pid_t tid)
{
	char path[32], line[256];
	cleanup_file FILE *file = NULL;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "Tgid:", 5))
			return (pid_t)strtol(line + 5, NULL, 10);
	}
	return -1;
}

/* Field 22 of /proc/PID/stat and the name; the name may hold spaces and brackets. */
static bool read_stat(pid_t pid, uint64_t *ret_start_time, char ret_name[16])
{
	char path[32], line[1024];
	cleanup_file FILE *file = NULL;
	char *open, *close;
	size_t length;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file || !fgets(line, sizeof(line), file))
		return false;
	open = strchr(line, '(');
	close = strrchr(line, ')');
	if (!open || !close)
		return false;
	length = (size_t)(close - open - 1);
	length = length > 15 ? 15 : length;
	memcpy(ret_name, open + 1, length);
	ret_name[length] = '\0';
	for (int field = 2; close && field < 22; field++)
		close = strchr(close + 1, ' ');
	*ret_start_time = close ? strtoull(close + 1, NULL, 10) : 0;
	return close;
}

/* The entry that a thread number was last seen with. The number may be another process' by now: tgkill() with signal 0
 * says ESRCH then. A first thread has its process' number, and whether that is still it is found with its file (caller_file()):
 * by the pidfd, which names the process for good. */
static struct process *recall(struct processes *ps, pid_t tid)
{
	uint16_t at = ps->threads[(uint32_t)tid % PROCESS_THREADS].entry;
	struct process *p;

	if (!at || ps->threads[(uint32_t)tid % PROCESS_THREADS].tid != tid)
		return NULL;
	p = &ps->entries[at - 1];
	if (!p->used || p->is_dead)
		return NULL;
	if (tid != p->pid && syscall(SYS_tgkill, p->pid, tid, 0) < 0 && errno == ESRCH)
		return NULL;
	return p;
}

static void remember(struct processes *ps, pid_t tid, const struct process *p)
{
	ps->threads[(uint32_t)tid % PROCESS_THREADS].tid = tid;
	ps->threads[(uint32_t)tid % PROCESS_THREADS].entry = (uint16_t)(p - ps->entries + 1);
}

static struct process *find(struct processes *ps, pid_t pid, uint64_t start_time)
{
	for (uint32_t i = 0; i < LEDGER_SLOTS; i++) {
		struct process *p = &ps->entries[i];

		if (p->used && !p->is_dead && p->pid == pid && p->start_time == start_time)
			return p;
	}
	return NULL;
}

bool process_has_ended(const struct process *p)
{
	struct pollfd poll_one = { .fd = p->pidfd, .events = POLLIN };

	return p->is_dead || (poll(&poll_one, 1, 0) == 1 && (poll_one.revents & POLLIN));
}

int caller_find(struct processes *ps, pid_t tid, struct caller *ret)
{
	uint64_t start_time;
	char name[16];

	*ret = (struct caller){ .tid = tid, .pidfd = -1 };
	pthread_mutex_lock(&ps->lock);
	ret->process = recall(ps, tid);
	if (ret->process)
		ret->process->refs++;
	pthread_mutex_unlock(&ps->lock);
	if (ret->process) {
		ret->pid = ret->process->pid;
		ret->pidfd = ret->process->pidfd;
		return 0;
	}

	ret->pid = thread_group(tid);
	if (ret->pid <= 0 || !read_stat(ret->pid, &start_time, name))
		return -ESRCH;
	pthread_mutex_lock(&ps->lock);
	ret->process = find(ps, ret->pid, start_time);
	if (ret->process) {
		ret->process->refs++;
		ret->pidfd = ret->process->pidfd;
		remember(ps, tid, ret->process);
	}
	pthread_mutex_unlock(&ps->lock);
	if (ret->process)
		return 0;
	ret->pidfd = (int)syscall(SYS_pidfd_open, ret->pid, 0);
	return ret->pidfd < 0 ? -errno : 0;
}

void processes_forget_thread(struct processes *ps, pid_t tid)
{
	pthread_mutex_lock(&ps->lock);
	ps->threads[(uint32_t)tid % PROCESS_THREADS].entry = 0;
	pthread_mutex_unlock(&ps->lock);
}

void caller_done(struct processes *ps, struct caller *c)
{
	if (c->process) {
		pthread_mutex_lock(&ps->lock);
		c->process->refs--;
		pthread_mutex_unlock(&ps->lock);
		c->process = NULL;
	} else if (c->pidfd >= 0) {
		close(c->pidfd);
	}
	c->pidfd = -1;
}

int caller_file(struct processes *ps, struct caller *c, int fd)
{
	int copy = (int)syscall(SYS_pidfd_getfd, c->pidfd, fd, 0);
	int code = copy < 0 ? -errno : 0;
	cleanup_close int thread = -1;

	/* the first thread has ended before the others, or has a descriptor table of its own */
	if ((code == -EBADF || code == -ESRCH) && c->tid != c->pid) {
		thread = (int)syscall(SYS_pidfd_open, c->tid, PIDFD_OF_THREAD);
		if (thread >= 0)
			copy = (int)syscall(SYS_pidfd_getfd, thread, fd, 0);
	}
	if (copy < 0)
		return code;
	return copy;
}

/* Take a slot of the ledger and an entry. Under the lock. */
static int enter(struct processes *ps, struct caller *c, uint64_t start_time, const char *name)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT };
	struct process *p = NULL;
	sigset_t saved;
	int slot;

	for (uint32_t i = 0; i < LEDGER_SLOTS && !p; i++)
		p = ps->entries[i].used ? NULL : &ps->entries[i];
	if (!p)
		return -ENOSPC;
	ledger_lock(ps->ledger, &saved);
	slot = ledger_slot_of(ps->ledger, c->pid, start_time, name);
	ledger_unlock(ps->ledger, &saved);
	if (slot < 0)
		return slot;
	*p = (struct process){
		.used = true,
		.pid = c->pid,
		.start_time = start_time,
		.pidfd = c->pidfd,
		.uvm_copy = -1,
		.slot = (uint16_t)slot,
		.refs = 1,
	};
	event.data.fd = p->pidfd;
	epoll_ctl(ps->epoll, EPOLL_CTL_ADD, p->pidfd, &event);
	c->process = p;
	return 0;
}

int caller_enter(struct processes *ps, struct caller *c)
{
	struct process *p;
	uint64_t start_time;
	char name[16];
	int r = 0;

	if (c->process)
		return 0;
	if (!read_stat(c->pid, &start_time, name))
		return -ESRCH;
	pthread_mutex_lock(&ps->lock);
	p = find(ps, c->pid, start_time);	/* another thread of it was faster */
	if (p) {
		p->refs++;
		close(c->pidfd);
		c->pidfd = p->pidfd;
		c->process = p;
	} else {
		r = enter(ps, c, start_time, name);
	}
	if (r == 0)
		remember(ps, c->tid, c->process);
	pthread_mutex_unlock(&ps->lock);
	return r;
}

bool processes_has(struct processes *ps, pid_t pid)
{
	bool found = false;

	pthread_mutex_lock(&ps->lock);
	for (uint32_t i = 0; i < LEDGER_SLOTS && !found; i++)
		found = ps->entries[i].used && ps->entries[i].pid == pid;
	pthread_mutex_unlock(&ps->lock);
	return found;
}

uint32_t process_uvm_file(const struct processes *ps, struct process *p, int file, bool makes_range)
{
	enum { OURS = 1, ANOTHER = 2 };
	long order;

	if (p->is_dead)
		return ANOTHER;
	if (p->uvm_copy < 0 && !makes_range)
		return ANOTHER;
	if (p->uvm_copy < 0) {
		p->uvm_copy = fcntl(file, F_DUPFD_CLOEXEC, 0);
		return p->uvm_copy < 0 ? 0 : OURS;
	}
	order = syscall(SYS_kcmp, ps->self, ps->self, KCMP_FILE, p->uvm_copy, file);
	if (order < 0)
		return 0;
	return order == 0 ? OURS : ANOTHER;
}

void process_let_go(struct process *p)
{
	if (p->uvm_copy >= 0)
		close(p->uvm_copy);
	p->uvm_copy = -1;
}

void process_free(struct processes *ps, struct process *p)
{
	process_let_go(p);
	close(p->pidfd);	/* leaves the epoll set by itself */
	p->used = false;
}

void process_booked(struct process *p, pid_t tid, uint64_t start, uint64_t length)
{
	p->recent[p->next_recent++ % PROCESS_RECENT] =
		(struct process_booking){ start, start + length, clock_ms(), tid };
}

void process_settled(struct process *p, pid_t tid)
{
	for (uint32_t i = 0; i < PROCESS_RECENT; i++) {
		if (p->recent[i].tid == tid)
			p->recent[i].tid = 0;
	}
}

bool process_is_recent(const struct process *p, uint64_t start, uint64_t end)
{
	uint64_t now = clock_ms();

	for (uint32_t i = 0; i < PROCESS_RECENT; i++) {
		const struct process_booking *b = &p->recent[i];

		if (b->tid && b->time_ms + PROCESS_SETTLE_MS > now && b->start < end && start < b->end)
			return true;
	}
	return false;
}
