/* SPDX-License-Identifier: Apache-2.0 */
/* The process that serves one container: its slice, ledger and control socket. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "daemon/daemon.h"
#include "ledger/ledger.h"
#include "policy/limit.h"
#include "rm/rm.h"
#include "supervisor/supervisor.h"

enum { WAIT_S = 30, CGROUP_TEXT = 4096 };

/* What the serving process keeps. */
struct slice {
	const struct daemon_config *config;
	const struct handoff *handoff;
	char driver[32];
	uint32_t gpu_count;
	struct ledger_gpu gpus[ACCOUNT_GPUS];
	struct limit_gpu cards[ACCOUNT_GPUS];
	uint64_t limits[ACCOUNT_GPUS];
	struct slice_dir dir;
	struct ledger_handle published;
	int report;
	ino_t pid_namespace;		/* 0: our own, which says nothing */
	char cgroup[CGROUP_TEXT];	/* "": ours */
};

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

static bool read_cgroup(pid_t pid, char text[CGROUP_TEXT])
{
	char path[32];
	cleanup_file FILE *file = NULL;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	file = fopen(path, "re");
	n = file ? fread(text, 1, CGROUP_TEXT - 1, file) : 0;
	text[n] = '\0';
	return n != 0;
}

static ino_t read_namespace(pid_t pid)
{
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
	return stat(path, &st) == 0 ? st.st_ino : 0;
}

static void learn_members(struct slice *s)
{
	char ours[CGROUP_TEXT];

	s->pid_namespace = read_namespace(s->handoff->pid);
	if (s->pid_namespace == read_namespace(getpid()))
		s->pid_namespace = 0;
	if (!read_cgroup(s->handoff->pid, s->cgroup) || !read_cgroup(getpid(), ours) || strcmp(ours, s->cgroup) == 0)
		s->cgroup[0] = '\0';
}

static bool is_member(pid_t pid, void *arg)
{
	struct slice *s = arg;
	char text[CGROUP_TEXT];

	if (pid == s->handoff->pid || (s->pid_namespace && read_namespace(pid) == s->pid_namespace))
		return true;
	return s->cgroup[0] && read_cgroup(pid, text) && strcmp(text, s->cgroup) == 0;
}

static int find_gpus(struct slice *s, struct error *err)
{
	struct rm rm;
	int r = rm_open(&rm, err);

	if (r < 0)
		return r;
	memcpy(s->driver, rm.layout_text, sizeof(s->driver));
	s->gpu_count = rm.gpu_count;
	for (uint32_t i = 0; i < rm.gpu_count; i++) {
		s->gpus[i] = rm.gpus[i].gpu;
		s->cards[i].index = s->gpus[i].index;
		memcpy(s->cards[i].uuid, s->gpus[i].uuid, sizeof(s->cards[i].uuid));
		s->cards[i].total_bytes = s->gpus[i].total_bytes;
	}
	rm_close(&rm);
	return 0;
}

static int set_limits(struct slice *s, struct error *err)
{
	char limit[WIRE_LIMIT], cap[WIRE_LIMIT];
	uint64_t most[ACCOUNT_GPUS];
	int r = decide_limit(s->config, s->handoff, limit, cap, err);

	if (r < 0)
		return r;
	if (cap[0] && limit_parse(cap, s->cards, s->gpu_count, most, err) < 0)
		return -EINVAL;
	r = limit_parse(limit, s->cards, s->gpu_count, s->limits, err);
	if (r == -ERANGE && cap[0])
		memcpy(s->limits, most, sizeof(most));	/* asks for more than there is: gets the most it may have */
	else if (r < 0)
		return r;
	for (uint32_t i = 0; cap[0] && i < s->gpu_count; i++) {
		if (s->limits[i] > most[i])
			s->limits[i] = most[i];
	}
	return 0;
}

struct sum {
	const struct slice *slice;
	uint64_t bytes[ACCOUNT_GPUS];
};

static int add_slice(const char *path, const char *name, void *arg)
{
	struct sum *sum = arg;
	struct ledger_handle h;
	char file[PATH_MAX];

	snprintf(file, sizeof(file), "%s/ledger", path);
	if (!slice_is_alive(path) || ledger_open(&h, file, false) < 0)
		return 0;
	for (uint32_t i = 0; i < sum->slice->gpu_count; i++) {
		for (uint32_t k = 0; k < h.ledger->account.gpu_count && k < ACCOUNT_GPUS; k++) {
			if (strcmp(sum->slice->gpus[i].uuid, h.ledger->gpus[k].uuid) == 0)
				sum->bytes[i] += h.ledger->account.limit_bytes[k];
		}
	}
	ledger_close(&h);
	return 0;
}

/* The sum of all limits, ours among them, must not be more than a GPU has. */
static int check_sum(const struct slice *s, struct error *err)
{
	struct sum sum = { .slice = s };

	if (s->config->overcommit)
		return 0;
	slices_each(s->dir.runtime, add_slice, &sum);
	for (uint32_t i = 0; i < s->gpu_count; i++) {
		char ask[SIZE_TEXT], given[SIZE_TEXT], total[SIZE_TEXT];

		if (s->limits[i] && sum.bytes[i] > s->gpus[i].total_bytes)
			return error_set(err, -ENOSPC, "it would get %s of GPU %u, of whose %s the running slices have %s "
					 "(overcommit = yes in fracgpud's configuration allows it)",
					 size_format(ask, s->limits[i]), s->gpus[i].index,
					 size_format(total, s->gpus[i].total_bytes),
					 size_format(given, sum.bytes[i] - s->limits[i]));
	}
	return 0;
}

static int make_address(const char *dir, struct sockaddr_un *ret, struct error *err)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(dir) + sizeof("/control") > sizeof(ret->sun_path))
		return error_set(err, -ENAMETOOLONG, "'%s' is too long a path", dir);
	sprintf(ret->sun_path, "%s/control", dir);
	return 0;
}

/* Returns a listening socket or negative errno. */
static int make_control(const struct slice *s, struct error *err)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;
	int r = make_address(s->dir.path, &address, err);

	if (r == 0 && (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 64) < 0))
		r = error_set(err, -errno, "cannot listen in '%s': %s", s->dir.path, strerror(errno));
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

/* Whose slice it is, for the next hand-off and for metrics. */
static int write_identity(const struct slice *s, struct error *err)
{
	char path[PATH_MAX];
	json_t *all = json_pack("{s:s,s:i,s:i}", "id", s->handoff->id, "uid", (int)s->handoff->uid, "pid",
				(int)s->handoff->pid);
	int r;

	if (s->handoff->annotations)
		json_object_set(all, "annotations", s->handoff->annotations);
	snprintf(path, sizeof(path), "%s/container", s->dir.path);
	r = json_dump_file(all, path, JSON_COMPACT);
	json_decref(all);
	return r < 0 ? error_set(err, -EIO, "cannot write '%s'", path) : 0;
}

static void started(void *arg)
{
	struct slice *s = arg;

	if (write(s->report, "", 1) == 1)
		close(TAKE_FD(s->report));
}

static int serve(struct slice *s, struct error *err)
{
	struct ledger_settings settings = {
		.name = s->dir.name, .door = "container", .driver = s->driver, .gpu_count = s->gpu_count,
		.gpus = s->gpus, .limits = s->limits,
	};
	struct supervisor_options options = {
		.settings = &settings, .published = &s->published, .kill_on_breach = s->config->kill_on_breach,
	};
	struct supervisor_remote remote = {
		.listener = s->handoff->listener, .is_member = is_member, .started = started, .arg = s,
	};
	char file[PATH_MAX];
	int r;

	snprintf(file, sizeof(file), "%s/ledger", s->dir.path);
	r = ledger_create(&s->published, file, &settings, err);
	if (r < 0)
		return r;
	r = check_sum(s, err);
	if (r == 0)
		r = write_identity(s, err);
	if (r == 0)
		r = remote.control = make_control(s, err);
	if (r >= 0) {
		slice_dir_ready(&s->dir);	/* until here nobody else counted the sum */
		r = supervisor_serve(&remote, &options, err);
		close(remote.control);
	}
	ledger_close(&s->published);
	return r;
}

static int slice_main(struct slice *s, struct error *err)
{
	char runtime[RUNTIME_PATH], name[SLICE_NAME];
	int r = find_gpus(s, err);

	if (r == 0)
		r = set_limits(s, err);
	if (r == 0)
		r = runtime_path(runtime, err);
	if (r < 0)
		return r;
	learn_members(s);
	slice_name_of(s->handoff, name);
	r = slice_dir_make(&s->dir, runtime, name, err);
	if (r < 0)
		return r;
	r = serve(s, err);
	slice_dir_done(&s->dir);
	return r;
}

/* In the child: keep the listener, the pipe and the standard three. */
static void child(const struct daemon_config *config, struct handoff *h, int report)
{
	static struct slice slice;
	struct error err;
	int listener = fcntl(h->listener, F_DUPFD_CLOEXEC, 16);
	int pipe = fcntl(report, F_DUPFD_CLOEXEC, 16);
	sigset_t none;

	if (listener < 0 || pipe < 0)
		_exit(1);
	h->listener = dup3(listener, 3, O_CLOEXEC);
	slice.report = dup3(pipe, 4, O_CLOEXEC);
	syscall(SYS_close_range, 5, ~0U, 0);
	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	prctl(PR_SET_NAME, "fracgpud-slice");
	slice.config = config;
	slice.handoff = h;
	if (slice_main(&slice, &err) == 0)
		_exit(0);
	if (slice.report < 0)
		fprintf(stderr, "fracgpud: container '%s': %s\n", h->id, err.text);
	else if (write(slice.report, err.text, strlen(err.text)) < 0)
		_exit(1);
	_exit(1);
}

static int start_process(const struct daemon_config *config, struct handoff *h, struct error *err)
{
	char text[sizeof(err->text)];
	int ends[2];
	ssize_t n;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0)
		child(config, h, ends[1]);
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

/* Whether the slice that has this name is of this container. */
static bool is_same(const char *dir, const struct handoff *h)
{
	char path[PATH_MAX];
	json_t *all;
	const char *id;
	bool same;

	snprintf(path, sizeof(path), "%s/container", dir);
	all = json_load_file(path, 0, NULL);
	id = json_string_value(json_object_get(all, "id"));
	same = id && strcmp(id, h->id) == 0 && json_integer_value(json_object_get(all, "uid")) == (json_int_t)h->uid;
	json_decref(all);
	return same;
}

/* Send the listener to who serves the container. Returns 0, -ENOENT when nobody does, or negative errno. */
static int send_listener(const char *dir, const struct handoff *h, struct error *err)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct timeval wait = { .tv_sec = WAIT_S };
	int32_t code = 0;
	struct iovec io = { &code, sizeof(code) };
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	struct sockaddr_un address;
	int r = make_address(dir, &address, err);

	if (r < 0)
		return r;
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -ENOENT;
	if (!is_same(dir, h))
		return error_set(err, -EEXIST, "another container's slice has its name");
	memcpy(CMSG_DATA(&control.header), &h->listener, sizeof(int));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0 || recv(fd, &code, sizeof(code), 0) != sizeof(code))
		return error_set(err, -EIO, "the process that serves it does not answer");
	return code < 0 ? error_set(err, code, "the process that serves it says: %s", strerror(-code)) : 0;
}

int slice_hand_over(const struct daemon_config *config, struct handoff *h, struct error *err)
{
	char runtime[RUNTIME_PATH], name[SLICE_NAME], dir[RUNTIME_PATH + SLICE_NAME + 1];
	int r = runtime_path(runtime, err);

	if (r < 0)
		return r;
	slice_name_of(h, name);
	snprintf(dir, sizeof(dir), "%s/%s", runtime, name);
	r = send_listener(dir, h, err);
	if (r == -ENOENT) {
		if (strcmp(h->status, "running") == 0)
			return error_set(err, -ESRCH, "the process that served it is gone: restart the container");
		r = start_process(config, h, err);
	}
	return r;
}
