/* SPDX-License-Identifier: Apache-2.0 */
/* The watchdog of the gates. Between fork and exit it makes system calls only. */
#include "gate/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	FDS_MAX = 65536,	/* kernels before 5.9 have no close_range */
	FAILED_TRIES = 50,	/* 100 ms apart */
};

static void close_from_to(unsigned int first, unsigned int last)
{
	if (first > last)
		return;
	if (syscall(SYS_close_range, first, last, 0) == 0)
		return;
	for (unsigned int fd = first; fd <= last && fd < FDS_MAX; fd++)
		close((int)fd);
}

/* Close every descriptor but those in keep. */
static void close_others(const int *keep, uint32_t count)
{
	unsigned int from = 0;

	for (;;) {
		int next = -1;

		for (uint32_t i = 0; i < count; i++)
			if (keep[i] >= (int)from && (next < 0 || keep[i] < next))
				next = keep[i];
		if (next < 0)
			break;
		if (next > 0)
			close_from_to(from, (unsigned int)next - 1);
		from = (unsigned int)next + 1;
	}
	close_from_to(from, ~0u);
}

static int open_everything(struct guard_shared *shared, const struct gate_port *port)
{
	int result = 0;

	for (uint32_t i = 0; i < shared->set_count; i++) {
		int r = gate_open_all(&shared->sets[i], port, GATE_UNSURE);

		if (!result)
			result = r;
	}
	return result;
}

static bool is_anything_closed(const struct guard_shared *shared)
{
	for (uint32_t s = 0; s < shared->set_count; s++)
		for (uint32_t i = 0; i < shared->sets[s].count; i++)
			if (shared->sets[s].channels[i].state == GATE_CLOSED)
				return true;
	return false;
}

static void watch(struct guard_shared *shared, const struct gate_port *port, int fd, uint32_t stall_ms)
{
	uint64_t beats = __atomic_load_n(&shared->beats, __ATOMIC_SEQ_CST);

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int r = poll(&p, 1, stall_ms ? (int)stall_ms : -1);
		uint64_t seen = __atomic_load_n(&shared->beats, __ATOMIC_SEQ_CST);

		if (r > 0 || (r < 0 && errno != EINTR))
			break;
		if (r == 0 && seen == beats && is_anything_closed(shared)) {
			open_everything(shared, port);
			__atomic_add_fetch(&shared->reopened, 1, __ATOMIC_SEQ_CST);
		}
		beats = seen;
	}
	/* the GPU may be busy with a reset: try for a while */
	for (int i = 0; i < FAILED_TRIES && open_everything(shared, port) < 0; i++)
		poll(NULL, 0, 100);
}

static __attribute__((noreturn)) void guard_main(struct guard_shared *shared, const struct gate_port *port, int fd,
						 int *keep, uint32_t count, uint32_t stall_ms)
{
	sigset_t all;

	setsid();
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	keep[count++] = fd;
	close_others(keep, count);
	watch(shared, port, fd, stall_ms);
	_exit(0);
}

int guard_start(struct guard *g, uint32_t set_count, const struct gate_port *port, const int *keep, uint32_t count,
		uint32_t stall_ms)
{
	int fds[2], kept[GUARD_KEEP + 1];
	struct guard_shared *shared;
	pid_t pid;
	int status;

	if (set_count > GUARD_SETS || count > GUARD_KEEP)
		return -EINVAL;
	memset(g, 0, sizeof(*g));
	g->pipe = -1;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return -errno;
	shared->set_count = set_count;
	for (uint32_t i = 0; i < set_count; i++)
		gate_init(&shared->sets[i], i);
	if (pipe2(fds, O_CLOEXEC) < 0) {
		status = -errno;
		munmap(shared, sizeof(*shared));
		return status;
	}
	if (count)
		memcpy(kept, keep, count * sizeof(kept[0]));
	/* without a signal at its end: such a child is seen by those alone who wait for it by __WCLONE. `fracgpu run` and
	 * the supervisor wait for any child, and must never meet it */
	pid = (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, NULL);
	if (pid == 0)
		guard_main(shared, port, fds[0], kept, count, stall_ms);
	status = -errno;
	close(fds[0]);
	if (pid < 0) {
		close(fds[1]);
		munmap(shared, sizeof(*shared));
		return status;
	}
	g->pid = pid;
	g->shared = shared;
	g->pipe = fds[1];
	return 0;
}

bool guard_beat(struct guard *g)
{
	uint32_t reopened;

	__atomic_add_fetch(&g->shared->beats, 1, __ATOMIC_SEQ_CST);
	reopened = __atomic_load_n(&g->shared->reopened, __ATOMIC_SEQ_CST);
	if (reopened == g->reopened)
		return false;
	g->reopened = reopened;
	return true;
}

void guard_stop(struct guard *g)
{
	if (!g->shared)
		return;
	close(g->pipe);
	while (waitpid(g->pid, NULL, __WCLONE) < 0 && errno == EINTR)
		;
	munmap(g->shared, sizeof(*g->shared));
	g->shared = NULL;
	g->pipe = -1;
}
