/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger's file: made, mapped, opened again, and copied for the display. */
#include "ledger/internal.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

enum {
	FD_HIGH = 512,		/* programs that close "all" descriptors often stop before */
	FD_TEXT = 32,
};

struct limit_gpu ledger_limit_gpu(const struct ledger_gpu *gpu)
{
	struct limit_gpu card = { .index = gpu->index, .total_bytes = gpu->total_bytes };

	_Static_assert(sizeof(card.uuid) == sizeof(gpu->uuid), "a UUID fits");
	memcpy(card.uuid, gpu->uuid, sizeof(card.uuid));
	return card;
}

static int fd_stat(int fd, struct stat *ret_stat)
{
	return (int)SYS_CALL(SYS_fstat, fd, ret_stat);
}

/* Move a fresh descriptor up, where the program does not step on it. Before any lock: closing drops them. */
static int fd_up(int fd)
{
	int high = sys_fcntl(fd, F_DUPFD_CLOEXEC, FD_HIGH);

	if (high < 0)
		return fd;
	sys_close(fd);
	return high;
}

bool file_is_ours(const struct ledger_handle *h)
{
	struct stat st;

	return fd_stat(LEDGER_LOAD(&h->fd), &st) == 0 && st.st_dev == h->dev && st.st_ino == h->ino;
}

/* "/proc/self/fd/N" without stdio. */
static void proc_path(char text[FD_TEXT], int fd)
{
	char digits[12];
	size_t n = 0;

	memcpy(text, "/proc/self/fd/", 14);
	text += 14;
	do
		digits[n++] = (char)('0' + fd % 10);
	while (fd /= 10);
	while (n)
		*text++ = digits[--n];
	*text = '\0';
}

int file_reopen(const struct ledger_handle *h)
{
	int fd = sys_openat(AT_FDCWD, h->path, O_RDWR | O_CLOEXEC | O_NOCTTY, 0);
	struct stat st;
	char proc[FD_TEXT];

	if (fd >= 0 && (fd_stat(fd, &st) < 0 || st.st_dev != h->dev || st.st_ino != h->ino)) {
		sys_close(fd);
		fd = -ESTALE;
	}
	/* The program may have changed its root, or the file may have lost its name. */
	if (fd < 0 && file_is_ours(h)) {
		int again;

		proc_path(proc, h->fd);
		again = sys_openat(AT_FDCWD, proc, O_RDWR | O_CLOEXEC | O_NOCTTY, 0);
		if (again >= 0)
			fd = again;
	}
	return fd < 0 ? fd : fd_up(fd);
}

static int map(struct ledger_handle *h, bool writable, int flags)
{
	long r = SYS_CALL(SYS_mmap, NULL, sizeof(struct ledger), PROT_READ | (writable ? PROT_WRITE : 0), flags,
			  h->fd, 0L);	/* long: the last argument travels on the stack, where an int is half a word */

	if (r < 0)
		return (int)r;
	h->ledger = (struct ledger *)r;
	h->is_writable = writable;
	return 0;
}

int file_remap(struct ledger_handle *h)
{
	int fd = file_reopen(h);
	long r;

	if (fd < 0)
		return fd;
	r = SYS_CALL(SYS_mmap, h->ledger, sizeof(struct ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
		     0L);
	if (r < 0) {
		sys_close(fd);
		return (int)r;
	}
	LEDGER_STORE(&h->fd, fd);
	return 0;
}

/* The path as it stays true after chdir(). */
static int keep_path(struct ledger_handle *h, const char *path)
{
	size_t length = strlen(path);
	size_t at = 0;

	if (path[0] != '/') {
		long n = SYS_CALL(SYS_getcwd, h->path, sizeof(h->path));

		if (n < 0)
			return n == -ERANGE ? -ENAMETOOLONG : (int)n;
		at = (size_t)n;		/* with its NUL */
		h->path[at - 1] = '/';
	}
	if (length >= sizeof(h->path) - at)
		return -ENAMETOOLONG;
	memcpy(h->path + at, path, length + 1);
	return 0;
}

static void handle_init(struct ledger_handle *h)
{
	memset(h, 0, sizeof(*h));
	h->fd = -1;
	h->slot = -1;
	h->pid = sys_getpid();
}

static void copy_text(char *to, size_t size, const char *from)
{
	size_t length = from ? strlen(from) : 0;

	if (length >= size)
		length = size - 1;
	if (length)
		memcpy(to, from, length);
	to[length] = '\0';
}

static void ledger_fill(struct ledger *l, const struct ledger_settings *settings)
{
	struct timespec now = { 0 };

	copy_text(l->name, sizeof(l->name), settings->name);
	copy_text(l->door, sizeof(l->door), settings->door);
	copy_text(l->driver, sizeof(l->driver), settings->driver);
	SYS_CALL(SYS_clock_gettime, CLOCK_REALTIME, &now);
	l->created_s = now.tv_sec;
	for (uint32_t gpu = 0; gpu < settings->gpu_count; gpu++)
		l->gpus[gpu] = settings->gpus[gpu];
	l->version = LEDGER_VERSION;
	/* Last: nobody takes a half-made file for a ledger. */
	LEDGER_STORE(&l->magic, LEDGER_MAGIC);
}

/* The file, sparse: pages that were never touched are an empty account. */
static int make_file(struct ledger_handle *h, const char *path)
{
	struct stat st;
	int r = keep_path(h, path);

	if (r < 0)
		return r;
	r = sys_openat(AT_FDCWD, h->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (r < 0)
		return r;
	h->fd = fd_up(r);
	r = (int)SYS_CALL(SYS_ftruncate, h->fd, (long)sizeof(struct ledger));
	if (r == 0)
		r = fd_stat(h->fd, &st);
	if (r == 0) {
		h->dev = st.st_dev;
		h->ino = st.st_ino;
		r = map(h, true, MAP_SHARED);
	}
	if (r < 0)
		SYS_CALL(SYS_unlinkat, AT_FDCWD, h->path, 0);
	return r;
}

int ledger_create(struct ledger_handle *h, const char *path, const struct ledger_settings *settings,
		  struct error *err)
{
	int r;

	handle_init(h);
	if (!settings->gpu_count || settings->gpu_count > ACCOUNT_GPUS)
		return error_set(err, -EINVAL, "a ledger is for 1 to %d GPUs, not %u", ACCOUNT_GPUS,
				 settings->gpu_count);
	r = path ? make_file(h, path) : map(h, true, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE);
	if (r < 0) {
		ledger_close(h);
		return error_set(err, r, "cannot make ledger '%s': %s%s", path ? path : "(memory)", strerror(-r),
				 r == -EEXIST ? " (is the slice running already?)" : "");
	}
	account_init(&h->ledger->account, settings->gpu_count, settings->limits);
	ledger_fill(h->ledger, settings);
	return 0;
}

int ledger_open(struct ledger_handle *h, const char *path, bool writable)
{
	struct stat st;
	int r;

	handle_init(h);
	r = keep_path(h, path);
	if (r < 0)
		return r;
	r = sys_openat(AT_FDCWD, h->path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
	if (r < 0)
		return r;
	h->fd = fd_up(r);
	r = fd_stat(h->fd, &st);
	if (r == 0 && (!S_ISREG(st.st_mode) || st.st_size != (off_t)sizeof(struct ledger)))
		r = -EPROTO;
	if (r == 0) {
		h->dev = st.st_dev;
		h->ino = st.st_ino;
		r = map(h, writable, MAP_SHARED);
	}
	if (r == 0 && (LEDGER_LOAD(&h->ledger->magic) != LEDGER_MAGIC || h->ledger->version != LEDGER_VERSION))
		r = -EPROTO;
	if (r < 0)
		ledger_close(h);
	return r;
}

void ledger_close(struct ledger_handle *h)
{
	if (h->ledger)
		SYS_CALL(SYS_munmap, h->ledger, sizeof(struct ledger));
	if (h->fd >= 0 && file_is_ours(h))
		sys_close(h->fd);
	h->ledger = NULL;
	h->fd = -1;
	h->slot = -1;
}

void ledger_publish(const struct ledger *src, struct ledger_handle *dst)
{
	const size_t start = offsetof(struct ledger, name);
	struct account *to = &dst->ledger->account;
	const struct account *from = &src->account;

	/* Everything behind the lock word and before the account, then the account's sums. */
	memcpy((char *)dst->ledger + start, (const char *)src + start, offsetof(struct ledger, account) - start);
	memcpy(to->limit_bytes, from->limit_bytes, sizeof(to->limit_bytes));
	memcpy(to->used_bytes, from->used_bytes, sizeof(to->used_bytes));
	memcpy(to->peak_bytes, from->peak_bytes, sizeof(to->peak_bytes));
	memcpy(to->refusals, from->refusals, sizeof(to->refusals));
	to->gpu_count = from->gpu_count;
	to->hold_count = from->hold_count;
}

void ledger_count(struct ledger_handle *h, enum ledger_event event)
{
	if (h->ledger && (unsigned int)event < LEDGER_EVENTS)
		__atomic_fetch_add(&h->ledger->events[event], 1, __ATOMIC_RELAXED);
}
