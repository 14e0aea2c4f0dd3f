/* SPDX-License-Identifier: Apache-2.0 */
/* Which process serves a container: the one that does, that of a slice which it joins, or a new one. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/daemon.h"

enum { DIR_PATH = RUNTIME_PATH + SLICE_NAME + 1 };

void slice_name_of(const struct handoff *h, char ret_name[SLICE_NAME])
{
	bool is_hash = strlen(h->id) == 64 && strspn(h->id, "0123456789abcdef") == 64;
	char user[16] = "";

	/* what other users call their containers must not meet what root's are called */
	if (h->uid != 0)
		snprintf(user, sizeof(user), "u%u-", h->uid);
	snprintf(ret_name, SLICE_NAME, "%s%.*s", user, is_hash ? 12 : 48, h->id);
	for (char *c = ret_name; *c; c++) {
		if (*c == '+')
			*c = '_';
	}
}

/* In the child: keep the listener, the pipe and the standard three. */
static void __attribute__((noreturn))
child(const struct daemon_config *config, struct handoff *h, const struct decision *decision, int report)
{
	enum { LISTENER = 3, REPORT = 4, FIRST_FREE = 16 };
	int listener = h->listener < 0 ? -1 : fcntl(h->listener, F_DUPFD_CLOEXEC, FIRST_FREE);
	int pipe = fcntl(report, F_DUPFD_CLOEXEC, FIRST_FREE);
	struct error err;
	sigset_t none;

	if ((h->listener >= 0 && listener < 0) || pipe < 0)
		_exit(1);
	if (listener >= 0)
		h->listener = dup3(listener, LISTENER, O_CLOEXEC);
	else
		close(LISTENER);
	report = dup3(pipe, REPORT, O_CLOEXEC);
	syscall(SYS_close_range, REPORT + 1, ~0U, 0);
	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	prctl(PR_SET_NAME, "fracgpud-slice");
	if (slice_serve(config, h, decision, &report, &err) == 0)
		_exit(0);
	if (report < 0)
		fprintf(stderr, "fracgpud: container '%s': %s\n", h->id, err.text);
	else if (write(report, err.text, strlen(err.text)) < 0)
		_exit(1);
	_exit(1);
}

static int start_process(const struct daemon_config *config, struct handoff *h,
			 const struct decision *decision, struct error *err)
{
	char text[sizeof(err->text)];
	int ends[2];
	ssize_t n;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0)
		child(config, h, decision, ends[1]);
	close(ends[1]);
	n = pid < 0 ? -1 : read(ends[0], text, sizeof(text) - 1);
	close(ends[0]);
	if (n == 1 && !text[0])
		return 0;
	if (n <= 0)
		return error_set(err, -EIO, "the process that was to serve it has ended");
	text[n] = '\0';
	return error_set(err, -EPERM, "%s", text);
}

static int send_listener(const char *dir, const struct handoff *h, struct error *err)
{
	struct supervisor_message message = { .wish = SUPERVISOR_SERVE, .pid = h->pid };

	memcpy(message.id, h->id, sizeof(message.id));
	return agent_send(dir, &message, h->listener, err);
}

static bool is_of(const struct identity *identity, const struct handoff *h)
{
	return strcmp(identity->id, h->id) == 0 && identity->uid == h->uid;
}

/* The slice of a name, when it is this container's own. Returns 0, -ENOENT when there is none, -EEXIST when
 * another has its name. */
static int find_own(const char *dir, const struct handoff *h, struct error *err)
{
	struct identity identity;
	int r = identity_read(dir, NULL, &identity);

	if (r < 0)
		return -ENOENT;
	if (!identity.is_standing && is_of(&identity, h))
		return 0;
	/* what is left of a dead one is cleaned away when the new one is made */
	return slice_is_alive(dir) ? error_set(err, -EEXIST, "another slice has the container's name")
				   : -ENOENT;
}

struct search {
	const struct handoff *handoff;
	const char *name;
	char dir[DIR_PATH];
};

static int look_inside(const char *path, const char *name, void *arg)
{
	struct search *search = arg;
	struct identity identity;

	if (identity_read(path, search->name, &identity) < 0 || !is_of(&identity, search->handoff))
		return 0;
	snprintf(search->dir, sizeof(search->dir), "%s", path);
	return 1;
}

/* Be in a slice that stands. */
static int join(const char *runtime, const struct handoff *h, const struct decision *decision,
		struct error *err)
{
	const char *name = decision->terms.slice;
	struct identity identity;
	char dir[DIR_PATH];
	int r = -ENOENT;

	snprintf(dir, sizeof(dir), "%s/%s", runtime, name);
	if (slice_name_is_valid(name))
		r = identity_read(dir, NULL, &identity);
	if (r < 0 || !identity.is_standing)
		return error_set(err, -ENOENT,
				 "it is to be in the slice '%s', which 'fracgpu create' has not made", name);
	if (!decision->is_given && !identity.is_open)
		return error_set(err, -EPERM,
				 "it asks to be in the slice '%s', which was made without --open", name);
	r = send_listener(dir, h, err);
	return r == -ENOENT ? error_set(err, r, "nobody serves the slice '%s' any more", name) : r;
}

int slice_hand_over(const struct daemon_config *config, struct handoff *h, struct error *err)
{
	char runtime[RUNTIME_PATH], name[SLICE_NAME], dir[DIR_PATH];
	struct search search = { .handoff = h, .name = name };
	struct decision decision;
	int r = runtime_path(runtime, err);

	if (r < 0)
		return r;
	slice_name_of(h, name);
	snprintf(dir, sizeof(dir), "%s/%s", runtime, name);
	r = find_own(dir, h, err);
	if (r == 0)
		r = send_listener(dir, h, err);
	if (r != -ENOENT)
		return r;
	if (slices_each(runtime, look_inside, &search) == 1)
		r = send_listener(search.dir, h, err);
	if (r != -ENOENT)
		return r;
	if (strcmp(h->status, "running") == 0)
		return error_set(err, -ESRCH, "the process that served it is gone: restart the container");
	r = decide(config, h, &decision, err);
	if (r < 0)
		return r;
	return decision.terms.slice[0] ? join(runtime, h, &decision, err)
				       : start_process(config, h, &decision, err);
}

int slice_create(const struct daemon_config *config, struct handoff *h, struct error *err)
{
	struct decision decision = { .is_given = true };
	struct wire_metadata m;

	if (h->uid != 0)
		return error_set(err, -EPERM, "only root makes slices that containers join");
	if (h->listener >= 0 || !slice_name_is_valid(h->id))
		return error_set(err, -EINVAL, "'%s' is no name of a slice", h->id);
	if (wire_metadata_unpack(h->metadata, &m) < 0 || m.terms.slice[0])
		return error_set(err, -EINVAL, "the request is not of this version of fracgpu");
	decision.terms = m.terms;
	if (!decision.terms.limit[0])
		snprintf(decision.terms.limit, sizeof(decision.terms.limit), "100%%");
	return start_process(config, h, &decision, err);
}

void slice_answer(int peer, int result, const struct error *err)
{
	json_t *answer = result < 0 ? json_pack("{s:s}", "error", err->text) : json_pack("{s:b}", "ok", 1);
	cleanup_free char *text = json_dumps(answer, JSON_COMPACT);

	json_decref(answer);
	if (text &&
	    (send(peer, text, strlen(text), MSG_NOSIGNAL) < 0 || send(peer, "\n", 1, MSG_NOSIGNAL) < 0))
		return; /* who asked is gone */
}
