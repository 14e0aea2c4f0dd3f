/* SPDX-License-Identifier: Apache-2.0 */
/* A slice whose programs somebody else starts, under filters that somebody else loads: a container. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/internal.h"
#include "supervisor/listener.h"
#include "supervisor/supervisor.h"

/* One listener for the container and one for each program that was started in it later and lives. */
enum { SERVINGS = 512 };

struct remote {
	struct supervisor supervisor;
	struct serving *servings[SERVINGS];
	uint32_t count;
	int control;
};

static int watch_fd(int epoll, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void serving_free(struct serving *serving)
{
	serve_stop(serving);
	close(serving->listener);
	free(serving);
}

/* Serve one more listener, which is ours from now on. Returns 0 or negative errno. */
static int add_listener(struct remote *r, int listener)
{
	struct serving *serving = r->count < SERVINGS ? calloc(1, sizeof(*serving)) : NULL;
	int code;

	if (!serving) {
		close(listener);
		return -ENOSPC;
	}
	serving->supervisor = &r->supervisor;
	serving->listener = listener;
	code = listener_prepare(listener);
	if (code == 0)
		code = serve_start(serving);
	if (code == 0)
		code = watch_fd(r->supervisor.epoll, listener, 0);	/* hang-up is always told */
	if (code < 0) {
		serving_free(serving);
		return code;
	}
	r->servings[r->count++] = serving;
	return 0;
}

/* Whether the descriptor is a listener of ours; its last process is gone then. */
static bool drop_listener(struct remote *r, int fd)
{
	for (uint32_t i = 0; i < r->count; i++) {
		if (r->servings[i]->listener == fd) {
			serving_free(r->servings[i]);
			r->servings[i] = r->servings[--r->count];
			return true;
		}
	}
	return false;
}

/* One message with a listener; the answer is a code. */
static void receive_listener(struct remote *r)
{
	cleanup_close int peer = accept4(r->control, NULL, NULL, SOCK_CLOEXEC);
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	int32_t code = 0;
	struct iovec io = { &code, sizeof(code) };
	struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	const struct cmsghdr *c;
	int listener = -1;

	/* only root can connect, and it sends at once */
	if (peer < 0 || recvmsg(peer, &message, MSG_CMSG_CLOEXEC) <= 0)
		return;
	c = CMSG_FIRSTHDR(&message);
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(&listener, CMSG_DATA(c), sizeof(listener));
	code = listener < 0 ? -EPROTO : add_listener(r, listener);
	send(peer, &code, sizeof(code), MSG_NOSIGNAL);
}

static void loop(struct remote *r)
{
	struct supervisor *s = &r->supervisor;

	while (r->count) {
		struct epoll_event events[32];
		int count = epoll_wait(s->epoll, events, 32, watch_tick(s));
		eventfd_t value;

		for (int i = 0; i < count; i++) {
			if (events[i].data.fd == s->wake)
				eventfd_read(s->wake, &value);
			else if (events[i].data.fd == r->control)
				receive_listener(r);
			else if (!drop_listener(r, events[i].data.fd))
				watch_reclaim(s);	/* a process has ended */
		}
	}
}

static int serve(struct remote *r, const struct supervisor_options *options, const struct supervisor_remote *from,
		 struct error *err)
{
	struct supervisor *s = &r->supervisor;
	int code = supervisor_prepare(s, options, err);

	if (code < 0)
		return code;
	s->is_member = from->is_member;
	s->member_arg = from->arg;
	r->control = from->control;
	supervisor_harden();
	code = watch_fd(s->epoll, r->control, EPOLLIN);
	if (code == 0)
		code = add_listener(r, from->listener);
	if (code < 0)
		return error_set(err, code, "cannot serve the container: %s", strerror(-code));
	watch_publish(s);
	from->started(from->arg);
	loop(r);
	watch_reclaim(s);
	atomic_store(&s->is_dirty, true);
	watch_publish(s);
	processes_done(&s->processes);
	return 0;
}

int supervisor_serve(const struct supervisor_remote *from, const struct supervisor_options *options, struct error *err)
{
	cleanup_free struct remote *r = calloc(1, sizeof(*r));
	struct ledger_handle ledger = { .fd = -1 };
	struct supervisor *s;
	int code;

	if (!r) {
		close(from->listener);
		return error_set(err, -ENOMEM, "out of memory");
	}
	s = &r->supervisor;
	s->epoll = s->wake = s->serving.listener = -1;
	s->ledger = &ledger;
	code = rm_open(&s->rm, err);
	if (code < 0) {
		close(from->listener);
		return code;
	}
	code = ledger_create(&ledger, NULL, options->settings, err);
	if (code == 0) {
		code = serve(r, options, from, err);
		supervisor_close(s);
		ledger_close(&ledger);
	}
	rm_close(&s->rm);
	return code;
}
