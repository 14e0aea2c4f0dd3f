/* SPDX-License-Identifier: Apache-2.0 */
/* Whether supervision works here: a child makes one call, and everything a supervisor does for it is done. */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/filter.h"
#include "supervisor/listener.h"
#include "supervisor/spawn.h"
#include "supervisor/supervisor.h"

enum { PROBE_REQUEST = 0x4008462a, QUESTION = 0x51756573, ANSWER = 0x416e7377, VALUE = 4711, WAIT_MS = 60000 };

/* The child: its buffer must come back changed, and the call must return what the supervisor says. */
static int ask(void *arg)
{
	uint32_t buffer[2] = { QUESTION, 0 };
	int pair[2];

	if (pipe(pair) < 0)
		_exit(1);
	_exit(ioctl(pair[0], PROBE_REQUEST, buffer) == VALUE && buffer[1] == ANSWER ? 0 : 1);
}

static int try_memory(pid_t pid, uint64_t address, struct error *err)
{
	uint32_t buffer[2] = { 0 };
	struct iovec here = { buffer, sizeof(buffer) };
	struct iovec there = { (void *)(uintptr_t)address, sizeof(buffer) };

	if (process_vm_readv(pid, &here, 1, &there, 1, 0) != sizeof(buffer) || buffer[0] != QUESTION)
		return error_set(err, -errno, "cannot read a child's memory: %s (process_vm_readv; does the container's "
				 "profile or Yama forbid it?)", strerror(errno));
	buffer[1] = ANSWER;
	if (process_vm_writev(pid, &here, 1, &there, 1, 0) != sizeof(buffer))
		return error_set(err, -errno, "cannot write a child's memory: %s", strerror(errno));
	return 0;
}

static int try_file(pid_t pid, int fd, struct error *err)
{
	cleanup_close int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	cleanup_close int copy = -1;
	struct stat st;

	if (pidfd < 0)
		return error_set(err, -errno, "cannot open a child's pidfd: %s (needs Linux 5.6)", strerror(errno));
	copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (copy < 0)
		return error_set(err, -errno, "cannot copy a child's descriptor: %s (pidfd_getfd; does the container's profile "
				 "forbid it?)", strerror(errno));
	if (fstat(copy, &st) < 0 || !S_ISFIFO(st.st_mode))
		return error_set(err, -EPROTO, "pidfd_getfd gave another file than the child's");
	return 0;
}

static int try_call(const struct spawned *child, struct error *err)
{
	struct pollfd p = { .fd = child->listener, .events = POLLIN };
	union notification n;
	union response r = { 0 };
	struct filter_args args;
	int code = listener_prepare(child->listener);

	if (code < 0)
		return error_set(err, code, "cannot use the seccomp listener: %s", strerror(-code));
	if (poll(&p, 1, WAIT_MS) != 1 || !(p.revents & POLLIN))
		return error_set(err, -EPROTO, "the seccomp listener tells of no call");
	code = listener_receive(child->listener, &n);
	if (code < 0)
		return error_set(err, code, "cannot receive from the seccomp listener: %s", strerror(-code));
	filter_decode(&n.data.data, &args);
	if (args.call != FILTER_IOCTL || args.request != PROBE_REQUEST)
		return error_set(err, -EPROTO, "the seccomp listener tells of another call than was made");
	code = try_memory(child->pid, args.argument, err);
	if (code == 0)
		code = try_file(child->pid, args.fd, err);
	if (code < 0)
		return code;
	r.data.id = n.data.id;
	r.data.val = VALUE;
	code = listener_send(child->listener, &r);
	if (code < 0)
		return error_set(err, code, "cannot answer a call: %s", strerror(-code));
	return 0;
}

int supervisor_probe(struct error *err)
{
	struct spawned child;
	struct filter filter;
	sigset_t mask;
	int code, status = -1;

	filter_make(&filter, NULL);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	code = spawn_filtered(&filter, ask, NULL, &mask, &child, err);
	if (code < 0)
		return code;
	code = try_call(&child, err);
	if (code < 0)
		kill(child.pid, SIGKILL);
	close(child.listener);
	close(child.report);
	waitpid(child.pid, &status, 0);
	if (code == 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
		code = error_set(err, -EPROTO, "a child did not get the answer that was sent to it");
	return code;
}
