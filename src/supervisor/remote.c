/* SPDX-License-Identifier: Apache-2.0 */
/* A slice whose programs somebody else starts, under filters that somebody else loads: containers. */
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
#include "supervisor/tree.h"

/* One listener for each container and one for each program that was started in it later and lives. */
enum { SERVINGS = 512 };

struct remote {
	struct supervisor supervisor;
	const struct supervisor_remote *from;
	struct serving *servings[SERVINGS];
	int numbers[SERVINGS];	/* of joins() */
	uint32_t count;
	bool is_standing;
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
static int add_listener(struct remote *r, int listener, const struct supervisor_message *message)
{
	struct serving *serving = r->count < SERVINGS ? calloc(1, sizeof(*serving)) : NULL;
	int number = serving ? r->from->joins(message, r->from->arg) : -ENOSPC;
	int code;

	if (number < 0) {
		free(serving);
		close(listener);
		return number;
	}
	serving->supervisor = &r->supervisor;
	serving->listener = listener;
	serving->is_interruptible = true;	/* the filter is not ours: we cannot know */
	code = listener_prepare(listener);
	if (code == 0)
		code = serve_start(serving);
	if (code == 0)
		code = watch_fd(r->supervisor.epoll, listener, 0);	/* hang-up is always told */
	if (code < 0) {
		serving_free(serving);
		r->from->leaves(number, r->from->arg);
		return code;
	}
	r->numbers[r->count] = number;
	r->servings[r->count++] = serving;
	return 0;
}

/* Whether the descriptor is a listener of ours; its last process is gone then. */
static bool drop_listener(struct remote *r, int fd)
{
	for (uint32_t i = 0; i < r->count; i++) {
		if (r->servings[i]->listener == fd) {
			serving_free(r->servings[i]);
			r->from->leaves(r->numbers[i], r->from->arg);
			r->servings[i] = r->servings[--r->count];
			r->numbers[i] = r->numbers[r->count];
			return true;
		}
	}
	return false;
}

static bool kill_one(pid_t pid, void *arg)
{
	kill(pid, SIGKILL);
	return false;
}

/* End a standing slice, which others may no longer join. Returns 0 or -EBUSY. */
static int end(struct remote *r, bool kills)
{
	if (r->count && !kills)
		return -EBUSY;
	r->is_standing = false;
	if (r->count)
		tree_find(getpid(), r->supervisor.is_member, r->supervisor.member_arg, kill_one, NULL);
	return 0;
}

static int carry_out(struct remote *r, const struct supervisor_message *message, int listener)
{
	if (message->wish != SUPERVISOR_SERVE) {
		if (listener >= 0)
			close(listener);
		return r->is_standing ? end(r, message->wish == SUPERVISOR_KILL) : -EPERM;
	}
	if (listener < 0)
		return -EPROTO;
	if (r->from->is_standing && !r->is_standing) {
		close(listener);
		return -ESHUTDOWN;
	}
	return add_listener(r, listener, message);
}

/* One message, perhaps with a listener; the answer is a code. */
static void receive(struct remote *r)
{
	cleanup_close int peer = accept4(r->from->agent, NULL, NULL, SOCK_CLOEXEC);
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct supervisor_message wish = { 0 };
	struct iovec io = { &wish, sizeof(wish) };
	struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	const struct cmsghdr *c;
	int listener = -1;
	int32_t code;
	ssize_t n;

	/* only root can connect, and it sends at once */
	n = peer < 0 ? -1 : recvmsg(peer, &message, MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return;
	c = CMSG_FIRSTHDR(&message);
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(&listener, CMSG_DATA(c), sizeof(listener));
	wish.id[sizeof(wish.id) - 1] = '\0';
	code = n == sizeof(wish) ? carry_out(r, &wish, listener) : -EPROTO;
	send(peer, &code, sizeof(code), MSG_NOSIGNAL);
}

static void loop(struct remote *r)
{
	struct supervisor *s = &r->supervisor;

	while (r->count || r->is_standing) {
		struct epoll_event events[32];
		int count = epoll_wait(s->epoll, events, 32, watch_tick(s));
		eventfd_t value;

		for (int i = 0; i < count; i++) {
			if (events[i].data.fd == s->wake)
				eventfd_read(s->wake, &value);
			else if (events[i].data.fd == r->from->agent)
				receive(r);
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
	r->from = from;
	r->is_standing = from->is_standing;
	supervisor_harden();
	code = watch_fd(s->epoll, from->agent, EPOLLIN);
	if (code == 0 && from->listener >= 0)
		code = add_listener(r, from->listener, &from->first);
	if (code < 0)
		return error_set(err, code, "cannot serve the container: %s", strerror(-code));
	if (options->started)
		options->started(s->ledger, options->arg);
	watch_publish(s);
	from->started(from->arg);
	loop(r);
	if (options->ended)
		options->ended(options->arg);
	watch_reclaim(s);
	atomic_store(&s->is_dirty, true);
	watch_publish(s);
	processes_done(&s->processes);
	return 0;
}

static void close_listener(const struct supervisor_remote *from)
{
	if (from->listener >= 0)
		close(from->listener);
}

int supervisor_serve(const struct supervisor_remote *from, const struct supervisor_options *options, struct error *err)
{
	cleanup_free struct remote *r = calloc(1, sizeof(*r));
	struct ledger_handle ledger = { .fd = -1 };
	struct supervisor *s;
	int code;

	if (!r) {
		close_listener(from);
		return error_set(err, -ENOMEM, "out of memory");
	}
	s = &r->supervisor;
	s->epoll = s->wake = s->serving.listener = -1;
	s->ledger = &ledger;
	code = rm_open(&s->rm, err);
	if (code < 0) {
		close_listener(from);
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
