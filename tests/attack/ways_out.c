/* SPDX-License-Identifier: Apache-2.0 */
/* Ways out of a supervised slice, tried: ways_out [CASE]. To be run in a slice of 1 GiB on one GPU. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/check.h"
#include "lib/test_rm.h"

enum { THREADS = 8, ROUNDS = 100, RACES = 2000, LIMIT_MIB = 1024, CLASS_MEMORY = 0x40 };

#define MIB (UINT64_C(1) << 20)

static atomic_bool is_over;

static void open_rm(struct test_rm *rm)
{
	CHECK_EQUAL(test_rm_open(rm, 0), 0);
}

static int take(struct test_rm *rm, uint64_t mib, uint32_t *object)
{
	uint64_t bytes = mib * MIB;

	*object = 0;
	return test_rm_vidmem(rm, &bytes, object);
}

/* What the slice holds, from what it is shown. */
static uint64_t used_mib(struct test_rm *rm)
{
	uint64_t total, left;

	CHECK_EQUAL(test_rm_fb_info(rm, FB_INFO_INDEX_TOTAL_RAM_SIZE, &total), 0);
	CHECK_EQUAL(test_rm_fb_info(rm, FB_INFO_INDEX_HEAP_FREE, &left), 0);
	return (total - left) / MIB;
}

/* What the driver says that a process holds. */
static uint64_t held_mib(struct test_rm *rm, pid_t pid)
{
	uint64_t bytes[3];

	CHECK_EQUAL(test_rm_pid_info(rm, (uint32_t)pid, bytes), 0);
	return (bytes[0] + bytes[1]) / MIB;
}

/* Take memory within a time in which any lazy clean-up is done. */
static void take_soon(struct test_rm *rm, uint64_t mib)
{
	uint32_t object;
	int r = NV_ERR_NO_MEMORY;

	for (int i = 0; i < 600 && r == NV_ERR_NO_MEMORY; i++) {
		r = take(rm, mib, &object);
		if (r)
			usleep(50000);
	}
	CHECK_EQUAL(r, 0);
}

static void *fill_and_free(void *arg)
{
	struct test_rm rm;
	uint32_t objects[8];

	open_rm(&rm);
	for (int i = 0; i < ROUNDS; i++) {
		int count = 0;

		while (count < 8 && take(&rm, 32, &objects[count]) == 0)
			count++;
		CHECK(used_mib(&rm) <= LIMIT_MIB);
		while (count > 0)
			CHECK_EQUAL(test_rm_free(&rm, rm.client, objects[--count]), 0);
	}
	test_rm_close(&rm);
	return NULL;
}

/* Threads at once, twice as many as fit. */
static void case_threads(void)
{
	pthread_t threads[THREADS];
	struct test_rm rm;

	for (int i = 0; i < THREADS; i++)
		CHECK_EQUAL(pthread_create(&threads[i], NULL, fill_and_free, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
	open_rm(&rm);
	CHECK_EQUAL(used_mib(&rm), 0);
	test_rm_close(&rm);
}

/* A child keeps the files of a parent that has ended: the memory is still there, and counts. */
static void case_fork(void)
{
	int hold[2], status;
	struct test_rm rm;
	uint32_t object;
	pid_t parent;
	char c;

	CHECK_EQUAL(pipe(hold), 0);
	parent = fork();
	if (!parent) {
		open_rm(&rm);
		CHECK_EQUAL(take(&rm, 800, &object), 0);
		if (!fork()) {
			close(hold[1]);
			_exit(read(hold[0], &c, 1) == 0 ? 0 : 1);
		}
		_exit(0);
	}
	waitpid(parent, &status, 0);
	CHECK_EQUAL(status, 0);
	open_rm(&rm);
	CHECK_EQUAL(take(&rm, 800, &object), NV_ERR_NO_MEMORY);
	close(hold[0]);
	close(hold[1]);
	take_soon(&rm, 800);
	test_rm_close(&rm);
}

/* Closing the file frees, and nobody tells the supervisor. Soon: FUSE tells the simulator of a close after it. */
static void case_close(void)
{
	for (int i = 0; i < 5; i++) {
		struct test_rm rm;

		open_rm(&rm);
		take_soon(&rm, 800);
		test_rm_close(&rm);
	}
}

static void case_killed(void)
{
	for (int i = 0; i < 5; i++) {
		struct test_rm rm;
		int status;
		pid_t child = fork();

		if (!child) {
			open_rm(&rm);
			take_soon(&rm, 1000);
			raise(SIGKILL);
		}
		waitpid(child, &status, 0);
		CHECK_EQUAL(WIFSIGNALED(status) ? WTERMSIG(status) : 0, SIGKILL);
	}
}

/* The arguments of an allocation, below 4 GiB for the ways with narrow registers. */
struct request {
	uint8_t call[64], params[128];
};

static void fill_request(struct test_rm *rm, struct request *q, uint64_t mib)
{
	memset(q, 0, sizeof(*q));
	put_u32(q->call, ALLOC_ROOT, rm->client);
	put_u32(q->call, ALLOC_PARENT, rm->device);
	put_u32(q->call, ALLOC_CLASS, CLASS_MEMORY);
	put_u64(q->call, ALLOC_PARAMS, (uintptr_t)q->params);
	put_u32(q->params, MEMORY_OWNER, rm->client);
	put_u32(q->params, MEMORY_FLAGS, 0x1c101);
	put_u32(q->params, MEMORY_ATTR, 0x18000000);
	put_u64(q->params, MEMORY_BYTES, mib * MIB);
}

static uint32_t status_of(const struct test_rm *rm, const struct request *q)
{
	return get_u32(q->call, rm->layout.alloc_long_status);
}

static void case_other_ways(void)
{
#if defined(__x86_64__)
	static const long numbers[] = { 16, 16 | 0x40000000, 514 | 0x40000000, 514 };
	struct request *q = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	struct test_rm rm;
	uint32_t request;
	int r;

	CHECK(q != MAP_FAILED);
	open_rm(&rm);
	request = abi_request(NV_ESC_RM_ALLOC, rm.layout.alloc_long_size);
	for (int round = 0; round < 2; round++) {
		uint64_t mib = round ? 32 : 2 * LIMIT_MIB;
		uint32_t want = round ? NV_OK : NV_ERR_NO_MEMORY;

		fill_request(&rm, q, mib);
		__asm__ volatile("int $0x80" : "=a"(r) : "a"(54), "b"(rm.ctl), "c"(request),
				 "d"((uint32_t)(uintptr_t)q->call) : "memory", "r8", "r9", "r10", "r11");
		CHECK_EQUAL(r, 0);
		CHECK_EQUAL(status_of(&rm, q), want);
		for (int i = 0; i < 4; i++) {
			fill_request(&rm, q, mib);
			CHECK_EQUAL(syscall(numbers[i], rm.ctl, request ^ 0xc0001200, q->call), 0);
			CHECK_EQUAL(status_of(&rm, q), want);
		}
	}
	CHECK_EQUAL(used_mib(&rm), 5 * 32);
	CHECK_EQUAL(held_mib(&rm, getpid()), 5 * 32);
	test_rm_close(&rm);
#endif
}

static int race_fd, null_fd, ctl_fd;

static void *swap_files(void *arg)
{
	while (!is_over) {
		dup2(ctl_fd, race_fd);
		dup2(null_fd, race_fd);
	}
	return NULL;
}

/* Another file under the number while the supervisor looks, the driver's when the call is made. */
static void case_file_race(void)
{
	struct test_rm rm;
	struct request q;
	pthread_t thread;
	int given = 0, refused = 0;

	open_rm(&rm);
	ctl_fd = rm.ctl;
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	race_fd = dup(null_fd);
	is_over = false;
	CHECK_EQUAL(pthread_create(&thread, NULL, swap_files, NULL), 0);
	for (int i = 0; i < RACES; i++) {
		uint32_t request = abi_request(NV_ESC_RM_ALLOC, rm.layout.alloc_long_size);

		fill_request(&rm, &q, 2);
		if (ioctl(race_fd, i & 1 ? request ^ 0x1200 : request, &q) == 0)
			given += status_of(&rm, &q) == NV_OK;
		else
			refused += errno == ENOTTY;
	}
	is_over = true;
	pthread_join(thread, NULL);
	printf("file race: %d given, %d refused\n", given, refused);
	CHECK_EQUAL(held_mib(&rm, getpid()), given * 2);
	CHECK_EQUAL(used_mib(&rm), given * 2);
	CHECK(held_mib(&rm, getpid()) <= LIMIT_MIB);
	test_rm_close(&rm);
}

static struct request shared_request;

static void *swap_class(void *arg)
{
	while (!is_over) {
		put_u32(shared_request.call, ALLOC_CLASS, CLASS_MEMORY);
		put_u32(shared_request.call, ALLOC_CLASS, 0x41);
	}
	return NULL;
}

/* A client's allocation goes on in the caller, which makes memory of it meanwhile. Where that wins, it is found out. */
static void case_class_race(void)
{
	struct test_rm rm;
	pthread_t thread;
	uint32_t object;
	bool won = false;

	open_rm(&rm);
	fill_request(&rm, &shared_request, 2048);
	is_over = false;
	CHECK_EQUAL(pthread_create(&thread, NULL, swap_class, NULL), 0);
	for (int i = 0; i < RACES && !won; i++) {
		put_u32(shared_request.call, ALLOC_ROOT, rm.client);
		put_u32(shared_request.call, ALLOC_OBJECT, 0);
		ioctl(rm.ctl, abi_request(NV_ESC_RM_ALLOC, rm.layout.alloc_long_size), &shared_request);
		won = i % 50 == 0 && held_mib(&rm, getpid()) > LIMIT_MIB;
	}
	is_over = true;
	pthread_join(thread, NULL);
	won = held_mib(&rm, getpid()) > LIMIT_MIB;
	printf("class race: %s\n", won ? "won" : "not won");
	for (int i = 0; won && take(&rm, 2, &object) == NV_OK; i++) {
		CHECK(i < 400);
		usleep(50000);
	}
	test_rm_close(&rm);
}

/* munmap() is not asked about. */
static void case_managed(void)
{
	struct test_rm rm;

	open_rm(&rm);
	CHECK_EQUAL(test_uvm_open(&rm), 0);
	for (int i = 0; i < 20; i++) {
		void *first = test_managed(&rm, 600 * MIB);

		CHECK(first);
		CHECK(!test_managed(&rm, 600 * MIB));
		CHECK_EQUAL(errno, ENOMEM);
		CHECK_EQUAL(munmap(first, 600 * MIB), 0);
	}
	take_soon(&rm, 1000);
	test_rm_close(&rm);
}

static void on_signal(int number)
{
}

static pthread_t main_thread;

static void *send_signals(void *arg)
{
	while (!is_over) {
		pthread_kill(main_thread, SIGUSR1);
		usleep(50);
	}
	return NULL;
}

/* No call is made twice or lost when signals come in the middle. One that comes before the supervisor has seen the call
 * ends it unmade, with EINTR where the program wants that, as the driver's own waits may. */
static void case_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct test_rm rm;
	pthread_t thread;
	uint32_t object;

	sigaction(SIGUSR1, &action, NULL);
	open_rm(&rm);
	main_thread = pthread_self();
	is_over = false;
	CHECK_EQUAL(pthread_create(&thread, NULL, send_signals, NULL), 0);
	for (int i = 0; i < RACES; i++) {
		CHECK_EQUAL(take(&rm, 2, &object), 0);
		CHECK_EQUAL(test_rm_free(&rm, rm.client, object), 0);
	}
	is_over = true;
	pthread_join(thread, NULL);
	CHECK_EQUAL(used_mib(&rm), 0);
	CHECK_EQUAL(held_mib(&rm, getpid()), 0);
	test_rm_close(&rm);
}

static double since_us(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - start->tv_sec) * 1e6 + (double)(now.tv_nsec - start->tv_nsec) / 1e3;
}

/* What asking costs. Nothing is asserted. */
static void case_time(void)
{
	struct timespec start;
	struct test_rm rm;
	uint64_t bytes;
	int file = open("/dev/null", O_RDWR | O_CLOEXEC);

	open_rm(&rm);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (int i = 0; i < RACES; i++)
		ioctl(file, 0xc0085630, NULL);
	printf("another file's call that is asked about: %.1f us\n", since_us(&start) / RACES);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (int i = 0; i < RACES; i++)
		ioctl(file, 0x5401, NULL);
	printf("a call that is not: %.2f us\n", since_us(&start) / RACES);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (int i = 0; i < RACES; i++)
		test_rm_fb_info(&rm, FB_INFO_INDEX_HEAP_FREE, &bytes);
	printf("FB_GET_INFO_V2: %.1f us\n", since_us(&start) / RACES);
	test_rm_close(&rm);
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{ "threads", case_threads },	   { "fork", case_fork },	{ "close", case_close },
	{ "killed", case_killed },	   { "other-ways", case_other_ways },
	{ "file-race", case_file_race },   { "managed", case_managed }, { "signals", case_signals },
	{ "time", case_time },		   { "class-race", case_class_race },	/* last: its slice gets no more */
};

int main(int argc, char **argv)
{
	bool found = false;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (argc > 1 && strcmp(argv[1], cases[i].name) != 0)
			continue;
		found = true;
		cases[i].run();
	}
	return found ? 0 : 2;
}
