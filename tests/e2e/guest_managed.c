/* SPDX-License-Identifier: Apache-2.0 */
/* Managed memory through the preload library: what is mapped is booked, what is gone is given back, in a
 * slice of 64 MiB. */
#include "guest.h"

#include <pthread.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define MIB (1ul << 20)
#define BASE 0x600000000000ul

enum { RW = PROT_READ | PROT_WRITE };

static int uvm;

static uint64_t used_mib(void)
{
	return guest_ledger()->account.used_bytes[0] / MIB;
}

/* Returns 0 or errno. */
static int map_at(unsigned long address, unsigned long bytes, int flags)
{
	void *p = mmap((void *)address, bytes, RW, MAP_SHARED | flags, uvm, (off_t)address);

	if (p == MAP_FAILED)
		return errno;
	CHECK_EQUAL((unsigned long)p, address);
	return 0;
}

static void unmap_at(unsigned long address, unsigned long bytes)
{
	CHECK_EQUAL(munmap((void *)address, bytes), 0);
}

static void case_limit(void)
{
	CHECK_EQUAL(map_at(BASE, 32 * MIB, MAP_FIXED), 0);
	CHECK_EQUAL(used_mib(), 32);
	CHECK_EQUAL(map_at(BASE + 64 * MIB, 33 * MIB, MAP_FIXED), ENOMEM);
	CHECK_EQUAL(used_mib(), 32);
	CHECK_EQUAL(map_at(BASE + 64 * MIB, 32 * MIB, 0), 0);
	CHECK_EQUAL(used_mib(), 64);
	CHECK_EQUAL(map_at(BASE + 128 * MIB, 4096, 0), ENOMEM);
	unmap_at(BASE, 16 * MIB);
	CHECK_EQUAL(used_mib(), 48);
	unmap_at(BASE, 128 * MIB);
	CHECK_EQUAL(used_mib(), 0);
}

/* Mapping over what is there. */
static void case_over(void)
{
	void *p;

	CHECK_EQUAL(map_at(BASE, 64 * MIB, MAP_FIXED), 0);
	CHECK_EQUAL(map_at(BASE, 64 * MIB, MAP_FIXED), 0);
	CHECK_EQUAL(used_mib(), 64);
	p = mmap((void *)BASE, 16 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK_EQUAL((unsigned long)p, BASE);
	CHECK_EQUAL(used_mib(), 48);
	CHECK_EQUAL(map_at(BASE + 32 * MIB, 8 * MIB, MAP_FIXED), 0);
	CHECK_EQUAL(used_mib(), 48);
	CHECK_EQUAL(map_at(BASE + 32 * MIB, 8 * MIB, MAP_FIXED_NOREPLACE), EEXIST);
	CHECK_EQUAL(map_at(BASE + 32 * MIB, 8 * MIB, 0), EINVAL);
	CHECK_EQUAL(used_mib(), 48);
}

/* Calls that the kernel or the driver refuses leave nothing booked. */
static void case_refused(void)
{
	int readonly = open("/dev/nvidia-uvm", O_RDONLY | O_CLOEXEC);

	CHECK(readonly >= 0);
	CHECK(mmap((void *)BASE, MIB, RW, MAP_SHARED | MAP_FIXED, readonly, (off_t)BASE) == MAP_FAILED);
	CHECK_EQUAL(errno, EACCES);
	CHECK_EQUAL(used_mib(), 0);
	CHECK(mmap((void *)BASE, MIB, RW, MAP_SHARED | MAP_FIXED, uvm, (off_t)(BASE + MIB)) == MAP_FAILED);
	CHECK_EQUAL(errno, EINVAL);
	CHECK(mmap((void *)BASE, 0, RW, MAP_SHARED | MAP_FIXED, uvm, (off_t)BASE) == MAP_FAILED);
	CHECK_EQUAL(errno, EINVAL);
	CHECK_EQUAL(map_at(BASE + 1, MIB, MAP_FIXED), EINVAL);
	CHECK(mmap((void *)BASE, -1ul - 4096, RW, MAP_SHARED | MAP_FIXED, uvm, (off_t)BASE) == MAP_FAILED);
	CHECK_EQUAL(errno, ENOMEM);
	CHECK_EQUAL(used_mib(), 0);
	/* the range is the program's again where it did not ask for MAP_FIXED */
	CHECK_EQUAL(map_at(BASE, 65 * MIB, 0), ENOMEM);
	CHECK_EQUAL(map_at(BASE, 64 * MIB, MAP_FIXED_NOREPLACE), 0);
	/* not managed memory: private, or another device */
	CHECK(mmap(NULL, MIB, RW, MAP_PRIVATE, uvm, 0) != MAP_FAILED);
	CHECK(mmap(NULL, MIB, RW, MAP_SHARED, guest_open("/dev/nvidia0"), 0) != MAP_FAILED);
	CHECK_EQUAL(used_mib(), 64);
}

/* Memory that went behind our back is found when it is needed. */
static void case_reclaim(void)
{
	pid_t pid;
	int ready[2];
	char byte;

	CHECK_EQUAL(map_at(BASE, 32 * MIB, MAP_FIXED), 0);
	CHECK_EQUAL(map_at(BASE + 32 * MIB, 32 * MIB, MAP_FIXED), 0);
	CHECK_EQUAL(syscall(SYS_munmap, BASE, 24 * MIB), 0);
	CHECK_EQUAL(used_mib(), 64);
	CHECK_EQUAL(map_at(BASE + 128 * MIB, 25 * MIB, MAP_FIXED), ENOMEM);
	CHECK_EQUAL(used_mib(), 40);
	CHECK_EQUAL(map_at(BASE + 128 * MIB, 24 * MIB, MAP_FIXED), 0);
	CHECK_EQUAL(used_mib(), 64);
	unmap_at(BASE, 256 * MIB);
	CHECK_EQUAL(used_mib(), 0);
	/* a process that was killed */
	CHECK_EQUAL(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		CHECK_EQUAL(map_at(BASE, 64 * MIB, MAP_FIXED), 0);
		CHECK_EQUAL(write(ready[1], "x", 1), 1);
		for (;;)
			pause();
	}
	CHECK_EQUAL(read(ready[0], &byte, 1), 1);
	CHECK_EQUAL(map_at(BASE, MIB, MAP_FIXED), ENOMEM);
	CHECK_EQUAL(kill(pid, 9), 0);
	CHECK_EQUAL(waitpid(pid, NULL, 0), pid);
	CHECK_EQUAL(map_at(BASE, 64 * MIB, MAP_FIXED), 0);
	CHECK_EQUAL(used_mib(), 64);
}

/* A child's addresses are its own; a vfork child's are its parent's. */
static void case_children(void)
{
	pid_t pid;

	CHECK_EQUAL(map_at(BASE, 32 * MIB, MAP_FIXED), 0);
	pid = fork();
	if (pid == 0) {
		unmap_at(BASE, 32 * MIB);
		CHECK_EQUAL(used_mib(), 32);
		_exit(0);
	}
	guest_reap(pid);
	CHECK_EQUAL(used_mib(), 32);
	pid = vfork();
	if (pid == 0) {
		munmap((void *)BASE, 16 * MIB);
		_exit(0);
	}
	guest_reap(pid);
	CHECK_EQUAL(used_mib(), 16);
}

/* What is booked stays when the program closes our descriptor. */
static void case_closed(void)
{
	CHECK_EQUAL(map_at(BASE, 32 * MIB, MAP_FIXED), 0);
	CHECK_EQUAL(syscall(SYS_close_range, 3, ~0u, 0), 0);
	uvm = guest_open("/dev/nvidia-uvm");
	CHECK_EQUAL(map_at(BASE + 64 * MIB, 33 * MIB, MAP_FIXED), ENOMEM);
	CHECK_EQUAL(used_mib(), 32);
	CHECK_EQUAL(map_at(BASE + 64 * MIB, 32 * MIB, MAP_FIXED), 0);
	CHECK_EQUAL(used_mib(), 64);
}

/* Threads that map and unmap at once: what is mapped is never missing from the sum, and a look at the
 * mappings makes the sum exact. */
static void *churn(void *arg)
{
	unsigned long place = BASE + (unsigned long)(uintptr_t)arg * 256 * MIB;

	for (int i = 0; i < 300; i++) {
		CHECK_EQUAL(map_at(place, 2 * MIB, MAP_FIXED), 0);
		CHECK(used_mib() >= 2);
		unmap_at(place, 2 * MIB);
	}
	CHECK_EQUAL(map_at(place, 4 * MIB, MAP_FIXED), 0);
	return NULL;
}

static void case_threads(void)
{
	pthread_t threads[4];

	for (uintptr_t i = 0; i < 4; i++)
		CHECK_EQUAL(pthread_create(&threads[i], NULL, churn, (void *)i), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
	CHECK(used_mib() >= 16);
	CHECK_EQUAL(map_at(BASE - 128 * MIB, 64 * MIB, MAP_FIXED), ENOMEM);
	CHECK_EQUAL(used_mib(), 16);
}

static const struct guest_case cases[] = {
	{ "limit", case_limit },
	{ "over", case_over },
	{ "refused", case_refused },
	{ "reclaim", case_reclaim },
	{ "children", case_children },
	{ "closed", case_closed },
	{ "threads", case_threads },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	uvm = guest_open("/dev/nvidia-uvm");
	guest_ledger();
	return guest_main(cases, argc, argv);
}
