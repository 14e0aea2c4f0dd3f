/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest programs share: cases by name, checks, the ledger as it is. Builds with glibc and musl. */
#ifndef FG_TESTS_GUEST_H
#define FG_TESTS_GUEST_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi/calls.h"
#include "ledger/ledger.h"

#define CHECK(condition)                                                                            \
	do {                                                                                        \
		if (!(condition)) {                                                                 \
			dprintf(2, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
			_exit(1);                                                                   \
		}                                                                                   \
	} while (0)

#define CHECK_EQUAL(have, want)                                                                              \
	do {                                                                                                 \
		long long check_have = (long long)(have), check_want = (long long)(want);                   \
		if (check_have != check_want) {                                                              \
			dprintf(2, "%s:%d: %s is %lld, not %lld (errno %d)\n", __FILE__, __LINE__, #have,   \
				check_have, check_want, errno);                                              \
			_exit(1);                                                                            \
		}                                                                                            \
	} while (0)

struct guest_case {
	const char *name;
	void (*run)(void);
};

static inline const char *guest_file(const char *name)
{
	static char path[256];

	CHECK(getenv("GUEST_SLICE"));
	snprintf(path, sizeof(path), "%s/%s", getenv("GUEST_SLICE"), name);
	return path;
}

/* The ledger, to look at. Its descriptor is left open: closing one drops the locks of the process. */
static inline const struct ledger *guest_ledger(void)
{
	static const struct ledger *ledger;
	int fd;

	if (!ledger) {
		fd = open(guest_file("ledger"), O_RDONLY | O_CLOEXEC);
		CHECK(fd >= 0);
		ledger = mmap(NULL, sizeof(*ledger), PROT_READ, MAP_SHARED, fd, 0);
		CHECK(ledger != MAP_FAILED);
	}
	return ledger;
}

static inline int guest_slots(void)
{
	const struct ledger *ledger = guest_ledger();
	int live = 0;

	for (int i = 0; i < LEDGER_SLOTS; i++)
		live += ledger->slots[i].state == SLOT_LIVE;
	return live;
}

static inline int guest_slot_of(pid_t pid)
{
	const struct ledger *ledger = guest_ledger();

	for (int i = 0; i < LEDGER_SLOTS; i++) {
		if (ledger->slots[i].state == SLOT_LIVE && ledger->slots[i].pid == pid)
			return i;
	}
	return -1;
}

/* A call that the engine judges and then makes: errno, ENOTTY when it reached the driver's stand-in. */
static inline int guest_call(int fd, void *argument)
{
	errno = 0;
	CHECK_EQUAL(ioctl(fd, (int)abi_request(NV_ESC_RM_FREE, FREE_SIZE), argument), -1);
	return errno;
}

static inline int guest_good_call(int fd)
{
	unsigned char argument[FREE_SIZE] = { 1 };

	return guest_call(fd, argument);
}

static inline int guest_open(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

/* Wait for a child that must have ended well. */
static inline void guest_reap(pid_t pid)
{
	int status;

	CHECK_EQUAL(waitpid(pid, &status, 0), pid);
	CHECK_EQUAL(status, 0);
}

static inline int guest_main(const struct guest_case *cases, int argc, char **argv)
{
	for (const struct guest_case *c = cases; argc >= 2 && c->name; c++) {
		if (!strcmp(c->name, argv[1])) {
			c->run();
			return 0;
		}
	}
	dprintf(2, "no such case\n");
	return 2;
}

#endif
