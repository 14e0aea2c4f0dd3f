/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpud: takes the seccomp listeners of containers, and sees that each is served. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/pod.h"

enum { PEERS = 64, TEXT_MAX = 64 << 10, PATIENCE_S = 10, LAST_PATIENCE_S = 2, EXIT_USAGE_D = 2 };

/* A connection that has not said all yet. */
struct peer {
	int fd;			/* -1: free */
	time_t since;
	size_t size;
	char *text;		/* TEXT_MAX bytes */
	struct handoff handoff;
};

struct daemon {
	const char *config_path;
	struct daemon_config config;
	struct metrics *metrics;	/* NULL: off */
	const char *path;		/* of the socket */
	int socket, signals;
	bool is_ending;			/* takes what is under way, and nothing new */
	struct peer peers[PEERS];
};

static void say(const char *level, const char *id, const char *text)
{
	fprintf(stderr, "fracgpud: level=%s container=%s %s\n", level, id[0] ? id : "-", text);
}

static time_t now_s(void)
{
	return (time_t)(monotonic_ns() / 1000000000);
}

static void peer_done(struct peer *peer)
{
	close(TAKE_FD(peer->fd));
	free(TAKE_PTR(peer->text));
	handoff_done(&peer->handoff);
}

/* Whether a process is the peer's to name: of its user, or in a user namespace that this user made. */
static bool is_theirs(uid_t uid, pid_t pid)
{
	char path[64];
	cleanup_close int ns = -1;
	struct stat st;
	uid_t owner;

	if (uid == 0)
		return true;
	snprintf(path, sizeof(path), "/proc/%d", pid);
	if (stat(path, &st) == 0 && st.st_uid == uid)
		return true;
	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	return ns >= 0 && ioctl(ns, NS_GET_OWNER_UID, &owner) == 0 && owner == uid;
}

static int take(struct daemon *d, struct handoff *h, struct error *err)
{
	bool is_first = strcmp(h->status, "running") != 0;
	int r = 0;

	if (h->listener < 0)
		return error_set(err, -EINVAL, "the hand-off came without a descriptor");
	if (h->pid < 0 || (is_first && h->pid == 0) || (h->pid && !is_theirs(h->uid, h->pid))) {
		h->pid = 0;
		return error_set(err, -EPERM, "the hand-off names no process of user %u", h->uid);
	}
	if (is_first)
		r = filter_check(h->pid, err);
	return r < 0 ? r : slice_hand_over(&d->config, h, err);
}

/* All has been said. Runtimes do not wait for an answer: a container that is refused is ended. */
static void finish(struct daemon *d, struct peer *peer)
{
	struct handoff *h = &peer->handoff;
	struct error err;
	bool is_served;

	if (strcmp(h->status, "create") == 0) {
		int r = slice_create(&d->config, h, &err);

		say(r < 0 ? "error" : "info", h->id, r < 0 ? err.text : "made");
		slice_answer(peer->fd, r, &err);
		peer_done(peer);
		return;
	}
	is_served = take(d, h, &err) == 0;
	metrics_count_handoff(d->metrics, is_served);
	if (!is_served) {
		if (h->uid == 0 && strcmp(h->status, "creating") == 0)
			pod_tell(h->bundle, err.text);
		if (h->pid > 0)
			kill(h->pid, SIGKILL);
		say("error", h->id, err.text);
	} else {
		say("info", h->id, "served");
	}
	peer_done(peer);
}

static void take_descriptors(struct peer *peer, struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; c->cmsg_type == SCM_RIGHTS && i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (peer->handoff.listener < 0)
				peer->handoff.listener = fd;
			else
				close(fd);
		}
	}
}

static void hear(struct daemon *d, struct peer *peer)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(16 * sizeof(int))];
	} control = { 0 };
	struct iovec io = { peer->text + peer->size, TEXT_MAX - peer->size };
	struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(peer->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct error err;
	int r;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		peer_done(peer);
		return;
	}
	take_descriptors(peer, &message);
	peer->size += (size_t)n;
	r = handoff_parse(peer->text, peer->size, &peer->handoff, &err);
	if (r == 0) {
		finish(d, peer);
	} else if (r != -EAGAIN || peer->size == TEXT_MAX) {
		say("error", "", r == -EAGAIN ? "a hand-off is too long" : err.text);
		peer_done(peer);
	}
}

static void meet(struct daemon *d)
{
	int fd = accept4(d->socket, NULL, NULL, SOCK_CLOEXEC);
	struct ucred who;
	socklen_t size = sizeof(who);

	for (int i = 0; fd >= 0 && i < PEERS; i++) {
		struct peer *peer = &d->peers[i];

		if (peer->fd >= 0)
			continue;
		*peer = (struct peer){ .fd = fd, .since = now_s(), .text = malloc(TEXT_MAX), .handoff = { .listener = -1 } };
		if (!peer->text || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0)
			peer_done(peer);
		else
			peer->handoff.uid = who.uid;
		return;
	}
	if (fd >= 0)
		close(fd);
}

static int make_socket(const char *path, bool for_all, struct error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char dir[sizeof(address.sun_path)];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char *slash;

	if (strlen(path) >= sizeof(address.sun_path) || fd < 0)
		return error_set(err, -EINVAL, "cannot listen at '%s'", path);
	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash && slash != dir) {
		*slash = '\0';
		mkdir(dir, 0755);
	}
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
		close(fd);
		return error_set(err, -EADDRINUSE, "another fracgpud listens at '%s'", path);
	}
	unlink(path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || chmod(path, for_all ? 0666 : 0600) < 0 ||
	    listen(fd, 128) < 0) {
		int code = error_set(err, -errno, "cannot listen at '%s': %s", path, strerror(errno));

		close(fd);
		return code;
	}
	return fd;
}

/* Tell systemd (sd_notify(3)). */
static void tell_ready(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_close int fd = -1;

	if (!path || strlen(path) >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, strlen(path));
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&address,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
}

/* Limits matter more than what shows them: without metrics the daemon goes on. What is open stays where nothing changed. */
static void set_metrics(struct daemon *d, const struct metrics_config *config)
{
	struct metrics *fresh = NULL;
	char text[METRICS_ADDRESS + 64];
	struct error err;

	if (d->metrics && memcmp(config, &d->config.metrics, sizeof(*config)) == 0)
		return;
	metrics_free(TAKE_PTR(d->metrics));	/* first: the new one may listen at the same place */
	if (!config->address[0])
		return;
	if (metrics_new(&fresh, config, &err) < 0) {
		say("error", "", err.text);
		return;
	}
	d->metrics = fresh;
	snprintf(text, sizeof(text), "metrics at %s", metrics_url(fresh));
	say("info", "", text);
}

/* Returns whether to go on. */
static bool obey(struct daemon *d)
{
	static struct daemon_config fresh;
	struct signalfd_siginfo info;
	struct error err;

	if (read(d->signals, &info, sizeof(info)) != sizeof(info))
		return true;
	if (info.ssi_signo != SIGHUP)
		return false;
	if (config_load(d->config_path, &fresh, &err) < 0) {
		say("error", "", err.text);
	} else {
		set_metrics(d, &fresh.metrics);
		d->config = fresh;
	}
	return true;
}

/* How long the loop may wait, ms; -1: any time. */
static int wait_ms(const struct daemon *d, bool is_peer_waiting)
{
	int ms = metrics_wait_ms(d->metrics);

	return is_peer_waiting && (ms < 0 || ms > 1000) ? 1000 : ms;
}

/* Nobody can connect any more: their containers do not start. Whoever has connected has a container that does, and would run
 * without anybody to answer it. */
static void begin_to_end(struct daemon *d)
{
	unlink(d->path);
	d->is_ending = true;
}

static void loop(struct daemon *d)
{
	for (;;) {
		struct pollfd fds[3 + PEERS] = { { d->socket, POLLIN, 0 }, { d->signals, POLLIN, 0 } };
		time_t now = now_s();
		int peers = 0, ready;

		for (int i = 0; i < PEERS; i++) {
			if (d->peers[i].fd >= 0 && now - d->peers[i].since > (d->is_ending ? LAST_PATIENCE_S : PATIENCE_S))
				peer_done(&d->peers[i]);
			peers += d->peers[i].fd >= 0;
			fds[2 + i] = (struct pollfd){ d->peers[i].fd, POLLIN, 0 };
		}
		if (peers == PEERS)
			fds[0].fd = -1;	/* who comes now waits */
		fds[2 + PEERS] = (struct pollfd){ metrics_fd(d->metrics), POLLIN, 0 };
		ready = poll(fds, 3 + PEERS, d->is_ending && !peers ? 0 : wait_ms(d, peers > 0));
		if (d->is_ending && !peers && !fds[0].revents)
			return;
		metrics_run(d->metrics);
		if (ready <= 0)
			continue;
		for (int i = 0; i < PEERS; i++) {
			if (fds[2 + i].revents)
				hear(d, &d->peers[i]);
		}
		if (fds[0].revents)
			meet(d);
		if (fds[1].revents && !obey(d))
			begin_to_end(d);
	}
}

static int usage(FILE *to, int status)
{
	fprintf(to, "Usage: fracgpud [--config FILE] [--socket PATH]\n\n"
		"Serves containers whose seccomp profile hands its listener to PATH, with the limits of FILE.\n"
		"  --config FILE  instead of " WIRE_CONFIG "\n  --socket PATH  instead of " WIRE_SOCKET "\n"
		"  --help         show this\n\n"
		"With 'metrics = 9401' below [default] of FILE it serves metrics for Prometheus and a page at\n"
		"http://127.0.0.1:9401/. See fracgpud(8).\n");
	return status;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "config", required_argument, NULL, 'c' },
						 { "socket", required_argument, NULL, 's' },
						 { "help", no_argument, NULL, 'h' }, { NULL } };
	static struct daemon d = { .config_path = WIRE_CONFIG };
	const char *path = WIRE_SOCKET;
	struct error err;
	sigset_t mask;
	int option;

	while ((option = getopt_long(argc, argv, "c:s:h", options, NULL)) >= 0) {
		if (option == 'c')
			d.config_path = optarg;
		else if (option == 's')
			path = optarg;
		else
			return usage(option == 'h' ? stdout : stderr, option == 'h' ? 0 : EXIT_USAGE_D);
	}
	if (optind < argc)
		return usage(stderr, EXIT_USAGE_D);
	for (int i = 0; i < PEERS; i++)
		d.peers[i].fd = -1;
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	d.signals = signalfd(-1, &mask, SFD_CLOEXEC);
	if (config_load(d.config_path, &d.config, &err) < 0 ||
	    (d.socket = make_socket(path, d.config.has_users, &err)) < 0) {
		say("error", "", err.text);
		return 1;
	}
	d.path = path;
	set_metrics(&d, &d.config.metrics);
	tell_ready();
	say("info", "", "ready");
	loop(&d);
	metrics_free(d.metrics);
	return 0;
}
