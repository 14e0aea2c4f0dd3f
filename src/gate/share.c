/* SPDX-License-Identifier: Apache-2.0 */
/* One driver leads, the others follow. */
#include "gate/share.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define RETRY_NS (50 * MS)
#define LOOK_NS (100 * MS)
#define SILENCE_NS (3000 * MS)

enum {
	MAGIC = 0x46474703, MESSAGES_AT_ONCE = 16, CHANNELS_AT_ONCE = 256, CHANNELS_MAX = 4096,
	ORDER_FOLLOW = 1, ORDER_FIGURES = 2,
};

/* From a member: first the one, then any. */
struct hello {
	uint32_t magic;
	uint32_t size;
	struct gate_member about;
};

struct channels {
	uint32_t magic;
	uint32_t gpu_id;
	uint32_t first, count, total;
	struct gate_about list[CHANNELS_AT_ONCE];
};

_Static_assert(sizeof(struct hello) != sizeof(struct channels), "messages are told apart by their size");

union message {
	struct hello hello;
	struct channels channels;
};

/* To a member. */
struct order {
	uint32_t magic;
	uint32_t kind;
	uint32_t gpu_id;
	uint32_t reserved;
	struct gate_figures figures;
};

void share_init(struct share *s, const struct gate_options *options)
{
	memset(s, 0, sizeof(*s));
	s->options = options;
	s->lock = s->listener = s->leader = -1;
}

void share_attach(struct share *s, struct gate_driver *driver, int slice)
{
	s->driver = driver;
	s->slice = slice;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Simulators have GPUs of their own: their files are FUSE's, whatever type they are shown as. 0: the machine's driver. */
static unsigned long long which_driver(void)
{
	struct statfs fs;
	struct stat st;

	if (statfs("/dev/nvidiactl", &fs) < 0 || fs.f_type != FUSE_SUPER_MAGIC || stat("/dev/nvidiactl", &st) < 0)
		return 0;
	return st.st_dev;
}

static bool make_address(const struct share *s, struct sockaddr_un *address)
{
	int n = snprintf(address->sun_path, sizeof(address->sun_path), "%s/.gates%llx", s->options->share_dir, which_driver());

	address->sun_family = AF_UNIX;
	return n > 0 && (size_t)n < sizeof(address->sun_path);
}

static bool may_join(const struct share *s, int peer)
{
	return !s->options->may_join || s->options->may_join(peer);
}

/* ---- the leader ---- */

static void drop_member(struct share *s, uint32_t index)
{
	gate_driver_remove(s->driver, s->members[index].slice);
	close(s->members[index].fd);
	s->members[index] = s->members[--s->count];
}

static int find_member(const struct share *s, int slice)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (s->members[i].slice == slice)
			return (int)i;
	return -1;
}

/* Who does not hear is hung up on: it then drives its slice itself. The driver is in the middle of a step, so the member is
 * taken off the list at the next look, which sees the end. */
static void send_order(struct share *s, int slice, const struct order *order)
{
	int index = find_member(s, slice);

	if (index >= 0 && send(s->members[index].fd, order, sizeof(*order), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(*order))
		shutdown(s->members[index].fd, SHUT_RDWR);
}

void share_report(void *arg, int member, uint32_t gpu_id, const struct gate_figures *figures)
{
	const struct order order = { .magic = MAGIC, .kind = ORDER_FIGURES, .gpu_id = gpu_id, .figures = *figures };

	send_order(arg, member, &order);
}

static bool lead(struct share *s)
{
	struct sockaddr_un address = { 0 };
	char path[sizeof(address.sun_path) + 8];

	if (!make_address(s, &address))
		return false;
	snprintf(path, sizeof(path), "%s.lock", address.sun_path);
	s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock < 0 || flock(s->lock, LOCK_EX | LOCK_NB) < 0) {
		close_fd(&s->lock);
		return false;
	}
	s->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(address.sun_path);
	if (s->listener < 0 || bind(s->listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(s->listener, SHARE_MEMBERS) < 0) {
		close_fd(&s->listener);
		close_fd(&s->lock);
		return false;
	}
	return true;
}

/* The first message of a member makes it one. That it follows from now on is said at once. */
static bool take_hello(struct share *s, uint32_t index, const struct hello *hello)
{
	int slice;

	if (s->members[index].slice >= 0) {
		gate_driver_update(s->driver, s->members[index].slice, &hello->about);
		return true;
	}
	slice = gate_driver_join(s->driver, &hello->about);
	if (slice < 0)
		return false;
	s->members[index].slice = slice;
	for (uint32_t i = 0; i < hello->about.gpu_count && i < ACCOUNT_GPUS; i++) {
		const struct order order = { .magic = MAGIC, .kind = ORDER_FOLLOW, .gpu_id = hello->about.gpus[i].gpu_id };

		if (gate_driver_decides(s->driver, slice, order.gpu_id))
			send_order(s, slice, &order);
	}
	return true;
}

static bool take_channels(struct share *s, uint32_t index, const struct channels *channels)
{
	int slice = s->members[index].slice;

	/* who has more drives them itself */
	if (slice < 0 || channels->count > CHANNELS_AT_ONCE || channels->total > CHANNELS_MAX ||
	    channels->first > channels->total - channels->count)
		return false;
	gate_driver_channels(s->driver, slice, channels->gpu_id, channels->list, channels->count, channels->first == 0,
			     channels->first + channels->count >= channels->total);
	return true;
}

static bool take_message(struct share *s, uint32_t index, const union message *message, size_t size)
{
	if (message->hello.magic != MAGIC)
		return false;
	if (size == sizeof(message->channels))
		return take_channels(s, index, &message->channels);
	return size == sizeof(message->hello) && message->hello.size == size && take_hello(s, index, &message->hello);
}

/* False: the member is gone, or speaks another language. */
static bool hear_member(struct share *s, uint32_t index)
{
	union message message;

	for (int i = 0; i < MESSAGES_AT_ONCE; i++) {
		ssize_t n = recv(s->members[index].fd, &message, sizeof(message), MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n <= 0 || !take_message(s, index, &message, (size_t)n))
			return false;
	}
	return true;
}

static void tend_members(struct share *s)
{
	int peer;

	while (s->count < SHARE_MEMBERS && (peer = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		if (!may_join(s, peer)) {
			close(peer);
			continue;
		}
		s->members[s->count].fd = peer;
		s->members[s->count++].slice = -1;
	}
	for (uint32_t i = 0; i < s->count;) {
		if (hear_member(s, i))
			i++;
		else
			drop_member(s, i);
	}
}

/* ---- the follower ---- */

static bool follow(struct share *s)
{
	struct sockaddr_un address = { 0 };

	if (!make_address(s, &address))
		return false;
	s->leader = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->leader < 0 || connect(s->leader, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    !may_join(s, s->leader)) {
		close_fd(&s->leader);
		return false;
	}
	memset(&s->sent, 0xff, sizeof(s->sent));
	memset(s->lists, 0, sizeof(s->lists));
	s->look_ns = 0;
	return true;
}

static void lose_leader(struct share *s)
{
	close_fd(&s->leader);
	gate_driver_lead(s->driver);
}

static bool take_order(struct share *s, const struct order *order)
{
	if (order->kind == ORDER_FOLLOW)
		gate_driver_follow(s->driver, order->gpu_id);
	else if (order->kind == ORDER_FIGURES)
		gate_driver_figures(s->driver, order->gpu_id, &order->figures);
	else
		return false;
	return true;
}

/* It speaks ten times a second. One that is silent hangs: what it closed its guard opens. */
static bool hear_leader(struct share *s, uint64_t now)
{
	struct order order;


	for (int i = 0; i < MESSAGES_AT_ONCE; i++) {
		ssize_t n = recv(s->leader, &order, sizeof(order), MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return now - s->heard_ns < SILENCE_NS || !gate_driver_is_followed(s->driver);
		if (n != sizeof(order) || order.magic != MAGIC || !take_order(s, &order))
			return false;
		s->heard_ns = now;
	}
	return true;
}

/* False: the leader is gone, or does not read. */
static bool say(const struct share *s, const void *message, size_t size)
{
	return send(s->leader, message, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size;
}

/* Our channels on a GPU, if they have changed: as many as the leader has room for now, the others at the next look. */
static bool say_channels(struct share *s, uint32_t i, uint32_t gpu_id)
{
	const struct gate_set *set = gate_driver_set(s->driver, gpu_id);
	struct channels message = { .magic = MAGIC, .gpu_id = gpu_id };

	if (!set)
		return true;
	if (s->lists[i].changes != set->changes)
		s->lists[i].next = 0;
	else if (s->lists[i].is_sent)
		return true;
	s->lists[i].changes = set->changes;
	do {
		message.first = s->lists[i].next;
		message.count = gate_describe(set, (uint32_t)s->slice, message.first, message.list, CHANNELS_AT_ONCE,
					      &message.total);
		if (message.total > CHANNELS_MAX) {
			s->is_alone = true;
			return false;
		}
		s->lists[i].is_sent = message.first + message.count >= message.total;
		if (!say(s, &message, sizeof(message))) {
			s->lists[i].is_sent = false;
			return true;
		}
		s->lists[i].next += message.count;
	} while (!s->lists[i].is_sent);
	return true;
}

/* Say what has changed of ours. */
static bool say_hello(struct share *s, uint64_t now)
{
	struct hello hello = { .magic = MAGIC, .size = sizeof(hello) };

	if (now < s->look_ns)
		return true;
	s->look_ns = now + LOOK_NS;
	gate_driver_describe(s->driver, s->slice, &hello.about);
	if (memcmp(&hello.about, &s->sent, sizeof(s->sent)) != 0) {
		if (!say(s, &hello, sizeof(hello)))
			return false;
		s->sent = hello.about;
	}
	for (uint32_t i = 0; i < hello.about.gpu_count; i++)
		if (!say_channels(s, i, hello.about.gpus[i].gpu_id))
			return false;
	return true;
}

/* ---- both ---- */

void share_tend(struct share *s, uint64_t now)
{
	if (!s->options->share_dir)
		return;
	if (s->listener < 0 && s->leader < 0 && now >= s->retry_ns && !s->is_alone) {
		s->retry_ns = now + RETRY_NS;
		if (!lead(s) && follow(s))
			s->heard_ns = now;
	}
	if (s->listener >= 0)
		tend_members(s);
	if (s->leader >= 0 && !hear_leader(s, now))
		lose_leader(s);
}

void share_speak(struct share *s, uint64_t now)
{
	if (s->leader >= 0 && !say_hello(s, now))
		lose_leader(s);
}

void share_changed(struct share *s)
{
	s->look_ns = 0;
}

bool share_is_needed(const struct share *s)
{
	return s->count != 0;
}

uint32_t share_polls(const struct share *s, struct pollfd *ret_polls)
{
	uint32_t count = 0;

	if (s->leader >= 0)
		ret_polls[count++] = (struct pollfd){ .fd = s->leader, .events = POLLIN };
	if (s->listener >= 0 && s->count < SHARE_MEMBERS)
		ret_polls[count++] = (struct pollfd){ .fd = s->listener, .events = POLLIN };
	for (uint32_t i = 0; i < s->count; i++)
		ret_polls[count++] = (struct pollfd){ .fd = s->members[i].fd, .events = POLLIN };
	return count;
}

void share_done(struct share *s)
{
	while (s->count)
		drop_member(s, s->count - 1);
	close_fd(&s->leader);
	close_fd(&s->listener);
	close_fd(&s->lock);
}
