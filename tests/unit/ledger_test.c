/* SPDX-License-Identifier: Apache-2.0 */
/* src/ledger: what survives whose death. The storm of kills is in ledger_storm_test.c. */
#include "ledger/ledger.h"

#include <errno.h>
#include <poll.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)

#ifndef F_OFD_SETLK
#define F_OFD_SETLK 37
#endif

enum { CLIENT = 0xc1d00001 };

static char folder[64];
static char path[128];
static struct ledger_handle h;

static const struct ledger_gpu gpu = { .index = 0, .total_bytes = 1024 * MIB, .uuid = "GPU-1", .name = "one" };
static const uint64_t limit = 100 * MIB;
static const struct ledger_settings settings = {
	.name = "slice", .door = "preload", .driver = "580.142", .gpu_count = 1, .gpus = &gpu, .limits = &limit,
};

static int setup(void **state)
{
	struct error err;

	snprintf(folder, sizeof(folder), "/tmp/fracgpu-ledger.XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/ledger", folder);
	if (ledger_create(&h, path, &settings, &err) < 0)
		fail_msg("%s", err.text);
	return 0;
}

static int teardown(void **state)
{
	ledger_close(&h);
	unlink(path);
	assert_int_equal(rmdir(folder), 0);
	return 0;
}

/* Hold memory for a process' slot. Under the lock. */
static int hold_memory(struct ledger_handle *handle, uint32_t handle_number, uint64_t bytes)
{
	struct account *a = &handle->ledger->account;
	struct hold hold = { .kind = HOLD_MEMORY, .client = CLIENT, .handle = handle_number };
	int r = account_charge(a, 1, bytes, &hold.charge);

	if (r < 0)
		return r;
	hold.owner = (uint16_t)handle->slot;
	return account_hold(a, &hold);
}

static void book(struct ledger_handle *handle, uint32_t handle_number, uint64_t bytes)
{
	sigset_t saved;

	ledger_lock(handle, &saved);
	assert_int_equal(hold_memory(handle, handle_number, bytes), 0);
	ledger_unlock(handle, &saved);
}

static uint32_t reap(void)
{
	sigset_t saved;
	uint32_t freed;

	ledger_lock(&h, &saved);
	freed = ledger_reap(&h);
	assert_int_equal(account_check(&h.ledger->account), 0);
	ledger_unlock(&h, &saved);
	return freed;
}

static uint64_t used(void)
{
	return __atomic_load_n(&h.ledger->account.used_bytes[0], __ATOMIC_RELAXED);
}

/* --- processes that do something, say so, and wait to be killed --- */

struct other {
	pid_t pid;
	int says;	/* reading end: one byte when ready */
};

static void say(int fd, char word)
{
	if (write(fd, &word, 1) != 1)
		_exit(2);
}

static struct other start(void (*fn)(int say_fd))
{
	struct other other;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	other.pid = fork();
	assert_true(other.pid >= 0);
	if (!other.pid) {
		close(ends[0]);
		fn(ends[1]);
		for (;;)
			pause();
	}
	close(ends[1]);
	other.says = ends[0];
	return other;
}

static char hear(const struct other *other)
{
	char word = 0;

	assert_true(read(other->says, &word, 1) >= 0);
	return word;
}

static void end(struct other *other)
{
	kill(other->pid, SIGKILL);
	waitpid(other->pid, NULL, 0);
	close(other->says);
}

/* A process with a handle of its own that holds 10 MiB. */
static void holder(int say_fd)
{
	struct ledger_handle mine;

	if (ledger_open(&mine, path, true) < 0 || ledger_attach(&mine) < 0)
		_exit(3);
	book(&mine, 1, 10 * MIB);
	say(say_fd, 'r');
}

/* --- files --- */

static void test_create(void **state)
{
	struct ledger_handle again;
	struct stat st;
	struct error err;
	char far[300];

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, sizeof(struct ledger));
	assert_true(st.st_blocks * 512 < 256 * 1024);	/* sparse */
	assert_int_equal(h.slot, -1);
	assert_string_equal(h.ledger->name, "slice");
	assert_string_equal(h.ledger->driver, "580.142");
	assert_string_equal(h.ledger->gpus[0].name, "one");
	assert_int_equal(h.ledger->account.limit_bytes[0], limit);
	assert_int_equal(fcntl(h.fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(ledger_create(&again, path, &settings, &err), -EEXIST);
	assert_non_null(strstr(err.text, path));
	assert_int_equal(stat(path, &st), 0);		/* and left alone */
	assert_int_equal(ledger_create(&again, "/nowhere/at/all", &settings, &err), -ENOENT);
	assert_int_equal(err.code, -ENOENT);
	memset(far, 'x', sizeof(far) - 1);
	far[0] = '/';
	far[sizeof(far) - 1] = '\0';
	assert_int_equal(ledger_create(&again, far, &settings, &err), -ENAMETOOLONG);
	assert_int_equal(ledger_open(&again, far, false), -ENAMETOOLONG);
	assert_null(again.ledger);
	assert_int_equal(again.fd, -1);
	ledger_close(&again);
}

static void test_open(void **state)
{
	struct ledger_handle other;
	char nowhere[160];

	snprintf(nowhere, sizeof(nowhere), "%s/none", folder);
	assert_int_equal(ledger_open(&other, nowhere, true), -ENOENT);
	assert_int_equal(ledger_open(&other, folder, false), -EPROTO);
	assert_int_equal(ledger_open(&other, path, false), 0);
	assert_string_equal(other.ledger->name, "slice");
	assert_int_equal(ledger_attach(&other), -EACCES);
	ledger_close(&other);
	h.ledger->version++;
	assert_int_equal(ledger_open(&other, path, true), -EPROTO);
	h.ledger->version--;
	h.ledger->magic++;
	assert_int_equal(ledger_open(&other, path, true), -EPROTO);
	h.ledger->magic--;
	assert_int_equal(truncate(path, (off_t)sizeof(struct ledger) - 1), 0);
	assert_int_equal(ledger_open(&other, path, true), -EPROTO);
	assert_int_equal(truncate(path, (off_t)sizeof(struct ledger)), 0);
	assert_int_equal(ledger_open(&other, path, true), 0);
	ledger_close(&other);
}

static void open_as_nobody(int say_fd)
{
	struct ledger_handle mine;

	if (geteuid() == 0 && seteuid(65534) < 0)
		_exit(3);
	say(say_fd, ledger_open(&mine, path, true) == -EACCES ? 'y' : 'n');
}

static void test_unwritable(void **state)
{
	struct other other;

	assert_int_equal(chmod(folder, 0755), 0);
	assert_int_equal(chmod(path, 0444), 0);
	other = start(open_as_nobody);
	assert_int_equal(hear(&other), 'y');
	end(&other);
}

/* --- attaching --- */

static void test_attach(void **state)
{
	const struct ledger_slot *slot;

	errno = 77;
	assert_int_equal(ledger_attach(&h), 0);
	assert_int_equal(h.slot, 0);
	slot = &h.ledger->slots[0];
	assert_int_equal(slot->state, SLOT_LIVE);
	assert_int_equal(slot->pid, getpid());
	assert_string_equal(slot->name, "unit-ledger");
	assert_true(slot->start_time > 0);
	assert_int_equal(ledger_attach(&h), 0);
	assert_int_equal(h.slot, 0);
	assert_int_equal(ledger_slot_pid(&h, 0), getpid());
	assert_int_equal(ledger_slot_pid(&h, 1), 0);
	assert_true(ledger_slot_is_alive(&h, 0));
	assert_false(ledger_slot_is_alive(&h, 1));
	assert_false(ledger_slot_is_alive(&h, LEDGER_SLOTS));
	assert_int_equal(errno, 77);
}

static void test_others_die(void **state)
{
	struct other other[3];

	assert_int_equal(ledger_attach(&h), 0);
	for (int i = 0; i < 3; i++) {
		other[i] = start(holder);
		assert_int_equal(hear(&other[i]), 'r');
		assert_int_equal(ledger_slot_pid(&h, (uint16_t)(i + 1)), other[i].pid);
	}
	/* the same handle: each took the last one's object over */
	assert_int_equal(used(), 10 * MIB);
	assert_int_equal(reap(), 0);
	end(&other[0]);
	assert_false(ledger_slot_is_alive(&h, 1));
	assert_int_equal(ledger_slot_pid(&h, 1), 0);
	assert_int_equal(reap(), 1);
	assert_int_equal(used(), 10 * MIB);
	end(&other[2]);
	end(&other[1]);
	assert_int_equal(reap(), 2);
	assert_int_equal(used(), 0);
}

/* A child that does not attach keeps its parent's slot alive: it has the driver's files too. */
static int stay[2];	/* an orphan lives until the writing end is closed */

static void orphan(int say_fd)
{
	char word;

	close(stay[1]);
	say(say_fd, 'c');
	while (read(stay[0], &word, 1) > 0)
		;
	_exit(0);
}

static void parent_of_orphan(int say_fd)
{
	holder(say_fd);
	if (fork() == 0)
		orphan(say_fd);
	close(stay[1]);
}

static void parent_of_attached_orphan(int say_fd)
{
	if (ledger_attach(&h) < 0)
		_exit(3);
	book(&h, 1, 10 * MIB);
	say(say_fd, 'r');
	if (fork() == 0) {
		/* as a daemon does: no descriptor but the two it needs; no driver's file is left either */
		for (int fd = 3; fd < 1024; fd++) {
			if (fd != stay[0] && fd != say_fd)
				close(fd);
		}
		if (ledger_attach(&h) < 0)
			_exit(3);
		/* closing its own once more takes nothing from it */
		close(h.fd);
		orphan(say_fd);
	}
	close(stay[1]);
}

static void with_orphan(void (*fn)(int say_fd), uint32_t dead_with_parent)
{
	struct other other;
	char word;

	assert_int_equal(pipe2(stay, O_CLOEXEC), 0);
	other = start(fn);
	assert_int_equal(hear(&other), 'r');
	assert_int_equal(hear(&other), 'c');
	close(stay[0]);
	kill(other.pid, SIGKILL);
	waitpid(other.pid, NULL, 0);
	assert_int_equal(ledger_slot_is_alive(&h, 0), !dead_with_parent);
	assert_int_equal(ledger_slot_is_alive(&h, 1), dead_with_parent);
	assert_int_equal(ledger_slot_pid(&h, 0), 0);
	assert_int_equal(reap(), dead_with_parent);
	assert_int_equal(used(), dead_with_parent ? 0 : 10 * MIB);
	close(stay[1]);
	assert_int_equal(read(other.says, &word, 1), 0);	/* the orphan's end of the pipe went */
	close(other.says);
}

static void test_fork_keeps_slot(void **state)
{
	with_orphan(parent_of_orphan, 0);
}

static void test_fork_of_daemon(void **state)
{
	with_orphan(parent_of_attached_orphan, 1);
}

static void forked_attacher(int say_fd)
{
	holder(say_fd);
	/* h is the test's own handle, unattached there */
	if (ledger_attach(&h) < 0)
		_exit(3);
	say(say_fd, (char)('0' + h.slot));
	if (fork() == 0) {
		int parents = h.slot;

		if (ledger_attach(&h) < 0 || h.slot == parents)
			_exit(3);
		say(say_fd, (char)('0' + h.slot));
		_exit(0);
	}
}

/* Each process has a slot of its own, however its handle came to it. */
static void test_fork_attaches(void **state)
{
	struct other other;
	uint32_t freed = 0;

	assert_int_equal(ledger_attach(&h), 0);
	assert_int_equal(h.slot, 0);
	other = start(forked_attacher);
	assert_int_equal(hear(&other), 'r');
	assert_int_equal(hear(&other), '2');
	assert_int_equal(hear(&other), '3');
	assert_int_equal(ledger_attach(&h), 0);
	assert_int_equal(h.slot, 0);
	end(&other);
	/* the forked one is on its way out: no event of it reaches us after its last descriptor */
	for (int tries = 0; tries < 3000 && (freed += reap()) < 2; tries++)
		poll(NULL, 0, 10);
	assert_true(freed >= 2);
	assert_int_equal(used(), 0);
	assert_true(ledger_slot_is_alive(&h, 0));
}

static void exec_cat(int say_fd)
{
	int ends[2];

	holder(say_fd);
	if (pipe(ends) < 0 || dup2(ends[0], 0) < 0)
		_exit(2);
	fcntl(ends[1], F_SETFD, 0);	/* cat keeps its own input open: it never ends */
	execl("/bin/cat", "cat", (char *)NULL);
	_exit(2);
}

static void test_exec_frees_slot(void **state)
{
	struct other other = start(exec_cat);

	assert_int_equal(hear(&other), 'r');
	assert_int_equal(hear(&other), 0);	/* the pipe is close-on-exec */
	assert_int_equal(kill(other.pid, 0), 0);
	assert_false(ledger_slot_is_alive(&h, 0));
	assert_int_equal(reap(), 1);
	assert_int_equal(used(), 0);
	end(&other);
}

static void attach_elsewhere(int say_fd)
{
	if (ledger_attach(&h) < 0)
		_exit(3);
	say(say_fd, 'r');
}

/* The child's way to the file when its name does not help. */
static void test_lost_path(void **state)
{
	char aside[160];
	struct other other;
	struct ledger_handle fresh;
	struct error err;

	assert_int_equal(ledger_attach(&h), 0);
	snprintf(aside, sizeof(aside), "%s/aside", folder);
	assert_int_equal(rename(path, aside), 0);
	assert_int_equal(ledger_create(&fresh, path, &settings, &err), 0);
	other = start(attach_elsewhere);
	assert_int_equal(hear(&other), 'r');
	assert_int_equal(ledger_slot_pid(&h, 1), other.pid);
	end(&other);
	ledger_close(&fresh);
	assert_int_equal(unlink(aside), 0);
	/* with the descriptor gone too, there is no way back */
	close(h.fd);
	assert_int_equal(ledger_attach(&h), -ESTALE);
}

static void test_relative_path(void **state)
{
	int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct ledger_handle relative;
	struct other other;

	assert_int_equal(chdir(folder), 0);
	assert_int_equal(ledger_open(&relative, "ledger", true), 0);
	assert_int_equal(fchdir(here), 0);
	close(here);
	assert_string_equal(relative.path, path);
	ledger_close(&h);
	h = relative;
	other = start(attach_elsewhere);
	assert_int_equal(hear(&other), 'r');
	end(&other);
}

/* --- descriptors that the program closed --- */

static void assert_seen_alive(int slot)
{
	struct ledger_handle other;

	/* another open file sees our locks; closing it drops our POSIX lock, which the next attach takes again */
	assert_int_equal(ledger_open(&other, path, false), 0);
	assert_true(ledger_slot_is_alive(&other, (uint16_t)slot));
	ledger_close(&other);
	assert_int_equal(ledger_attach(&h), 0);
}

static void test_closed_descriptor(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fd;

	assert_int_equal(ledger_attach(&h), 0);
	book(&h, 7, MIB);
	close(h.fd);
	assert_int_equal(ledger_attach(&h), 0);
	assert_int_equal(h.slot, 0);
	assert_seen_alive(0);
	/* its number is another file's now: it is used no more, and not closed */
	fd = h.fd;
	assert_int_equal(dup2(null, fd), fd);
	assert_int_equal(ledger_attach(&h), 0);
	assert_int_equal(h.slot, 0);
	assert_int_not_equal(h.fd, fd);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	close(fd);
	assert_seen_alive(0);
	assert_int_equal(used(), MIB);
	assert_int_equal(account_owner_bytes(&h.ledger->account, 0, 0), MIB);
	/* without a descriptor nobody looks dead */
	close(h.fd);
	assert_int_equal(reap(), 0);
	assert_int_equal(used(), MIB);
	close(null);
}

static void ask_for_pid(int say_fd)
{
	struct ledger_handle mine;

	if (ledger_open(&mine, path, false) < 0)
		_exit(3);
	say(say_fd, ledger_slot_pid(&mine, 0) == getppid() ? 'y' : 'n');
}

/* Any close() of the file drops our process' byte lock; others would take us for dead. */
static void test_dropped_byte(void **state)
{
	struct other other;

	assert_int_equal(ledger_attach(&h), 0);
	close(open(path, O_RDONLY | O_CLOEXEC));
	other = start(ask_for_pid);
	assert_int_equal(hear(&other), 'n');
	end(&other);
	assert_int_equal(ledger_attach(&h), 0);
	other = start(ask_for_pid);
	assert_int_equal(hear(&other), 'y');
	end(&other);
}

static void just_live(int say_fd)
{
	say(say_fd, 'r');
}

/* A child with our open file, and our descriptor closed: still one slot. */
static void test_closed_with_child(void **state)
{
	struct other other;

	assert_int_equal(ledger_attach(&h), 0);
	book(&h, 7, MIB);
	other = start(just_live);
	assert_int_equal(hear(&other), 'r');
	close(h.fd);
	assert_int_equal(ledger_attach(&h), 0);
	assert_int_equal(h.slot, 0);
	assert_seen_alive(0);
	end(&other);
	assert_seen_alive(0);
	assert_int_equal(reap(), 0);
	assert_int_equal(used(), MIB);
}

/* --- full --- */

static void lock_slots(int fd, int first, short type)
{
	struct flock lock = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = LEDGER_OFD_BYTE + first, .l_len = LEDGER_SLOTS - first,
	};

	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
}

static void test_full(void **state)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	lock_slots(fd, 0, F_WRLCK);
	assert_int_equal(ledger_attach(&h), -ENOSPC);
	assert_int_equal(h.slot, -1);
	close(fd);
	assert_int_equal(ledger_attach(&h), 0);
}

/* --- the lock --- */

static void dies_in_lock(int say_fd)
{
	struct ledger_handle mine;
	uint32_t charge;
	sigset_t saved;

	if (ledger_open(&mine, path, true) < 0 || ledger_attach(&mine) < 0)
		_exit(3);
	ledger_lock(&mine, &saved);
	hold_memory(&mine, 1, 3 * MIB);
	account_charge(&mine.ledger->account, 1, MIB, &charge);
	mine.ledger->account.used_bytes[0] += 12345;
	mine.ledger->account.hash[0] = 99;
	say(say_fd, 'r');
}

static void test_stolen_lock(void **state)
{
	struct other other;
	sigset_t saved;

	assert_int_equal(ledger_attach(&h), 0);
	other = start(dies_in_lock);
	assert_int_equal(hear(&other), 'r');
	end(&other);
	ledger_lock(&h, &saved);
	assert_int_equal(h.ledger->events[LEDGER_REPAIR], 1);
	assert_int_equal(account_check(&h.ledger->account), 0);
	assert_int_equal(used(), 3 * MIB);
	assert_int_equal(ledger_reap(&h), 1);
	assert_int_equal(used(), 0);
	ledger_unlock(&h, &saved);
	assert_int_equal(h.ledger->lock, 0);
	/* and without being attached */
	other = start(dies_in_lock);
	assert_int_equal(hear(&other), 'r');
	end(&other);
	ledger_close(&h);
	assert_int_equal(ledger_open(&h, path, true), 0);
	assert_int_equal(reap(), 2);
	assert_int_equal(h.ledger->events[LEDGER_REPAIR], 2);
	assert_int_equal(used(), 0);
}

/* The dead holder's slot goes to the next process: that one must see that the word is not its own. */
static void test_lock_of_own_slot(void **state)
{
	struct other other = start(dies_in_lock);
	int fd;

	assert_int_equal(hear(&other), 'r');
	end(&other);
	fd = open(path, O_RDWR | O_CLOEXEC);
	lock_slots(fd, 1, F_WRLCK);
	assert_int_equal(ledger_attach(&h), 0);
	assert_int_equal(h.slot, 0);
	assert_int_equal(h.ledger->events[LEDGER_REPAIR], 1);
	assert_int_equal(used(), 0);
	assert_int_equal(h.ledger->lock, 0);
	close(fd);
}

static void dies_in_lock_unattached(int say_fd)
{
	struct ledger_handle mine;
	sigset_t saved;

	if (ledger_open(&mine, path, true) < 0)
		_exit(3);
	ledger_lock(&mine, &saved);
	say(say_fd, 'r');
}

static void test_unattached_dies(void **state)
{
	for (int round = 1; round <= 2; round++) {
		struct other other = start(dies_in_lock_unattached);

		assert_int_equal(hear(&other), 'r');
		end(&other);
		if (round == 2)
			assert_int_equal(ledger_attach(&h), 0);
		assert_int_equal(reap(), 0);
		assert_int_equal(h.ledger->events[LEDGER_REPAIR], round);
	}
}

/* A holder that lives is waited for, however long it takes: its unlock is what lets us in. */
static void holds_until_told(int say_fd)
{
	struct ledger_handle mine;
	sigset_t saved;

	if (ledger_open(&mine, path, true) < 0 || ledger_attach(&mine) < 0)
		_exit(3);
	ledger_lock(&mine, &saved);
	say(say_fd, 'r');
	for (int i = 0; i < 20; i++)	/* ten times as long as a waiter waits before it looks */
		usleep(1000);
	hold_memory(&mine, 1, 3 * MIB);
	ledger_unlock(&mine, &saved);
}

static void test_living_holder(void **state)
{
	struct other other;
	sigset_t saved;

	assert_int_equal(ledger_attach(&h), 0);
	other = start(holds_until_told);
	assert_int_equal(hear(&other), 'r');
	ledger_lock(&h, &saved);
	assert_int_equal(used(), 3 * MIB);
	ledger_unlock(&h, &saved);
	assert_int_equal(h.ledger->events[LEDGER_REPAIR], 0);
	end(&other);
}

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
	signals++;
}

static void test_signals(void **state)
{
	struct sigaction old;
	const struct sigaction action = { .sa_handler = on_signal };
	sigset_t saved;

	assert_int_equal(ledger_attach(&h), 0);
	sigaction(SIGUSR1, &action, &old);
	signals = 0;
	ledger_lock(&h, &saved);
	raise(SIGUSR1);
	assert_int_equal(signals, 0);
	ledger_unlock(&h, &saved);
	for (int i = 0; i < 1000 && !signals; i++)	/* the thread sanitizer hands signals over in libc's calls only */
		usleep(1000);
	assert_int_equal(signals, 1);
	sigaction(SIGUSR1, &old, NULL);
}

/* --- threads --- */

enum { THREADS = 8, ROUNDS = 5000 };

static void *count_up(void *arg)
{
	struct ledger_handle *handle = arg;
	sigset_t saved;

	if (handle->path[0] && ledger_attach(handle) < 0)
		return handle;
	for (int i = 0; i < ROUNDS; i++) {
		ledger_lock(handle, &saved);
		handle->ledger->account.serial++;
		ledger_unlock(handle, &saved);
		ledger_count(handle, LEDGER_BREACH);
	}
	return NULL;
}

static void run_threads(struct ledger_handle *handle)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_up, handle), 0);
	for (int i = 0; i < THREADS; i++) {
		void *failed;

		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	assert_int_equal(handle->ledger->account.serial, THREADS * ROUNDS);
	assert_int_equal(handle->ledger->events[LEDGER_BREACH], THREADS * ROUNDS);
	assert_int_equal(handle->ledger->events[LEDGER_REPAIR], 0);
	assert_int_equal(handle->ledger->lock, 0);
}

static void test_threads(void **state)
{
	int live = 0;

	run_threads(&h);
	for (int slot = 0; slot < LEDGER_SLOTS; slot++)
		live += h.ledger->slots[slot].state == SLOT_LIVE;
	assert_int_equal(live, 1);
}

static void test_threads_memory_only(void **state)
{
	struct ledger_handle memory;
	struct error err;

	assert_int_equal(ledger_create(&memory, NULL, &settings, &err), 0);
	assert_int_equal(ledger_attach(&memory), -EINVAL);
	run_threads(&memory);
	ledger_close(&memory);
}

/* --- the supervisor's side --- */

static void test_slots_of_others(void **state)
{
	struct ledger_handle memory;
	struct error err;
	int one, two;

	assert_int_equal(ledger_create(&memory, NULL, &settings, &err), 0);
	one = ledger_slot_of(&memory, 100, 5, "a name that is too long");
	assert_int_equal(one, 0);
	assert_string_equal(memory.ledger->slots[one].name, "a name that is ");
	two = ledger_slot_of(&memory, 101, 5, "b");
	assert_int_equal(two, 1);
	assert_int_equal(ledger_slot_of(&memory, 100, 5, "a"), one);
	assert_int_equal(ledger_slot_of(&memory, 100, 0, "a"), one);
	assert_int_equal(ledger_slot_pid(&memory, 1), 101);
	assert_true(ledger_slot_is_alive(&memory, 1));
	memory.slot = one;
	assert_int_equal(hold_memory(&memory, 1, MIB), 0);
	/* the pid again, another process */
	one = ledger_slot_of(&memory, 100, 6, "a");
	assert_true(one >= 0);
	assert_int_equal(memory.ledger->slots[one].start_time, 6);
	assert_int_equal(memory.ledger->account.used_bytes[0], 0);
	ledger_slot_free(&memory, (uint16_t)one);
	assert_false(ledger_slot_is_alive(&memory, (uint16_t)one));
	assert_int_equal(ledger_slot_pid(&memory, (uint16_t)one), 0);
	/* exports outlive their maker, but not the last process */
	memory.slot = two;
	assert_int_equal(hold_memory(&memory, 1, MIB), 0);
	account_find(&memory.ledger->account, CLIENT, 1);
	ledger_slot_free(&memory, (uint16_t)two);
	assert_int_equal(memory.ledger->account.used_bytes[0], 0);
	assert_int_equal(account_check(&memory.ledger->account), 0);
	for (int i = 0; i < LEDGER_SLOTS; i++)
		assert_int_equal(ledger_slot_of(&memory, 1000 + i, 1, ""), i);
	assert_int_equal(ledger_slot_of(&memory, 1, 1, ""), -ENOSPC);
	assert_int_equal(ledger_reap(&memory), 0);
	memory.slot = -1;
	ledger_close(&memory);
}

static void test_publish(void **state)
{
	struct ledger_handle memory;
	struct ledger_handle reader;
	struct error err;
	struct stat st;

	assert_int_equal(ledger_create(&memory, NULL, &settings, &err), 0);
	memory.slot = ledger_slot_of(&memory, 100, 5, "prog");
	assert_int_equal(hold_memory(&memory, 1, MIB), 0);
	ledger_count(&memory, LEDGER_REFUSED_CLASS);
	memory.ledger->frozen = 1;
	ledger_publish(memory.ledger, &h);
	assert_int_equal(ledger_open(&reader, path, false), 0);
	assert_int_equal(reader.ledger->account.used_bytes[0], MIB);
	assert_int_equal(reader.ledger->account.peak_bytes[0], MIB);
	assert_int_equal(reader.ledger->account.hold_count, 1);
	assert_int_equal(reader.ledger->account.hold_high, 0);		/* no tables */
	assert_int_equal(reader.ledger->slots[0].pid, 100);
	assert_string_equal(reader.ledger->slots[0].name, "prog");
	assert_int_equal(reader.ledger->events[LEDGER_REFUSED_CLASS], 1);
	assert_int_equal(reader.ledger->frozen, 1);
	assert_int_equal(reader.ledger->lock, 0);
	assert_int_equal(fstat(reader.fd, &st), 0);
	assert_true(st.st_blocks * 512 < 256 * 1024);
	ledger_close(&reader);
	memory.slot = -1;
	ledger_close(&memory);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_create), CASE(test_open), CASE(test_unwritable),
		CASE(test_attach), CASE(test_others_die),
		CASE(test_fork_keeps_slot), CASE(test_fork_of_daemon), CASE(test_fork_attaches), CASE(test_exec_frees_slot),
		CASE(test_lost_path), CASE(test_relative_path),
		CASE(test_closed_descriptor), CASE(test_dropped_byte), CASE(test_closed_with_child),
		CASE(test_full),
		CASE(test_stolen_lock), CASE(test_lock_of_own_slot), CASE(test_unattached_dies),
		CASE(test_living_holder), CASE(test_signals),
		CASE(test_threads), CASE(test_threads_memory_only),
		CASE(test_slots_of_others), CASE(test_publish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
