/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a program under the filter: the child loads it, and sends the listener over a socket. */
#include "supervisor/spawn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/filter.h"

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int))];
};

/* A code, and with it a descriptor where there is one. */
static int send_report(int sock, int code, int fd)
{
	struct iovec io = { &code, sizeof(code) };
	union control control = { 0 };
	struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *c = &control.header;

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	return sendmsg(sock, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Returns 1, 0 at the end, or negative errno. */
static int receive_report(int sock, int *ret_code, int *ret_fd)
{
	struct iovec io = { ret_code, sizeof(*ret_code) };
	union control control = { 0 };
	struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	const struct cmsghdr *c;
	ssize_t got;

	do
		got = recvmsg(sock, &message, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got <= 0)
		return got < 0 ? -errno : 0;
	if (got != sizeof(*ret_code))
		return -EPROTO;
	c = CMSG_FIRSTHDR(&message);
	*ret_fd = -1;
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(c), sizeof(*ret_fd));
	return 1;
}

static void child_main(int sock, const struct filter *filter, int (*run)(void *arg), void *arg, const sigset_t *mask)
{
	int listener = filter_load(filter);

	if (send_report(sock, listener < 0 ? listener : 0, listener) < 0 || listener < 0)
		_exit(127);
	close(listener);
	sigprocmask(SIG_SETMASK, mask, NULL);
	send_report(sock, run(arg), -1);
	_exit(127);
}

static int explain(struct error *err, int code)
{
	if (code == -EBUSY)
		return error_set(err, code, "a supervisor watches this process already: what runs here is inside its slice");
	if (code == -EACCES || code == -EPERM)
		return error_set(err, code, "cannot load a seccomp filter: %s (does the container's own profile forbid "
				 "seccomp()?)", strerror(-code));
	return error_set(err, code, "cannot load a seccomp filter with a listener: %s (needs Linux 5.9 or later with "
			 "CONFIG_SECCOMP_FILTER)", strerror(-code));
}

int spawn_filtered(const struct filter *filter, int (*run)(void *arg), void *arg, const sigset_t *mask, struct spawned *ret,
		   struct error *err)
{
	int pair[2], code = 0, got, listener = -1;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, -errno, "cannot make a socket pair: %s", strerror(errno));
	pid = fork();
	if (pid < 0) {
		code = errno;
		close(pair[0]);
		close(pair[1]);
		return error_set(err, -code, "cannot start a process: %s", strerror(code));
	}
	if (pid == 0) {
		close(pair[0]);
		child_main(pair[1], filter, run, arg, mask);
	}
	close(pair[1]);
	got = receive_report(pair[0], &code, &listener);
	if (got <= 0 || code < 0 || listener < 0) {
		close(pair[0]);
		waitpid(pid, NULL, 0);
		return explain(err, got < 0 ? got : code < 0 ? code : -EPROTO);
	}
	*ret = (struct spawned){ pid, listener, pair[0] };
	return 0;
}

int spawn_wait_started(struct spawned *spawned)
{
	int code = 0, fd;
	int got = receive_report(spawned->report, &code, &fd);

	close(TAKE_FD(spawned->report));
	if (got < 0)
		return got;
	return got > 0 ? code : 0;
}
